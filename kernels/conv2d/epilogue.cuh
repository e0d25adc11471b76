// What follows the sums of a convolution: nothing, ReLU, or ReLU and 2×2 max-pool.
#pragma once

enum Epilogue : unsigned { PLAIN, RELU, POOL };
