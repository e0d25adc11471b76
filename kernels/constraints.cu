// constraints: raw answers to probabilities that obey a decision tree; and the clip that stands in for it at the start.
//
//   forward         r = z < 0 ? 0 : z;  q = r / (Σ of its question's r + ε);  p = q · (p of the question's parent)
//   backward        with up = gradient of p, plus Σ up·q over each question that the answer is the parent of:
//                   dz = z > 0 ? (up − Σ of its question's up·q) · (p of the parent) / (Σ r + ε) : 0
//   clip_forward    y = min(max(z, 0), 1)
//   clip_backward   dz = 0 < z < 1 ? gradient : 0
//
// Arrays     z, p, q (`conditional`) and their gradients (A, B) float32. The tree, int32: question k has the answers
//            starts[k] to starts[k + 1] − 1; parents[k] is the answer that leads to it, −1 if it is asked of every
//            image (its factor is then 1); `order` lists the questions, parents before their children.
// Threads    the tree: one an image, along B, which goes through all questions. clip: one an element.
// NaN        passes to all answers of its question and below; backward an answer that is NaN gets 0, as one ≤ 0.
// Versions   one each. A thread waits for memory once a question, whatever B is: 11 times for Galaxy Zoo 2, which is
//            little beside one convolution.

#include "include/activation.cuh"

constexpr float EPSILON = 1e-12f;

extern "C" __global__ void constraints_forward(const float* __restrict__ z, const int* __restrict__ starts,
                                               const int* __restrict__ parents, const int* __restrict__ order,
                                               float* __restrict__ p, float* __restrict__ conditional,
                                               unsigned questions, unsigned B) {
  const unsigned b = blockIdx.x * blockDim.x + threadIdx.x;
  if (b >= B) return;
  for (unsigned k = 0; k < questions; ++k) {
    const int question = order[k], start = starts[question], stop = starts[question + 1], parent = parents[question];
    float sum = 0;
    for (int a = start; a < stop; ++a) sum += rectified(z[a * B + b]);
    sum += EPSILON;
    const float factor = parent < 0 ? 1.0f : p[parent * B + b];
    for (int a = start; a < stop; ++a) {
      const float q = rectified(z[a * B + b]) / sum;
      conditional[a * B + b] = q;
      p[a * B + b] = q * factor;
    }
  }
}

extern "C" __global__ void constraints_backward(const float* __restrict__ gradient, const float* __restrict__ z,
                                                const float* __restrict__ p, const float* __restrict__ conditional,
                                                const int* __restrict__ starts, const int* __restrict__ parents,
                                                const int* __restrict__ order, float* __restrict__ dz, unsigned A,
                                                unsigned questions, unsigned B) {
  const unsigned b = blockIdx.x * blockDim.x + threadIdx.x;
  if (b >= B) return;
  for (unsigned a = 0; a < A; ++a) dz[a * B + b] = gradient[a * B + b];  // `up`, until its question's turn
  for (unsigned k = questions; k-- > 0;) {
    const int question = order[k], start = starts[question], stop = starts[question + 1], parent = parents[question];
    float sum = 0, mean = 0;
    for (int a = start; a < stop; ++a) {
      sum += rectified(z[a * B + b]);
      mean = fmaf(dz[a * B + b], conditional[a * B + b], mean);
    }
    sum += EPSILON;
    const float factor = (parent < 0 ? 1.0f : p[parent * B + b]) / sum;
    if (parent >= 0) dz[parent * B + b] += mean;
    for (int a = start; a < stop; ++a) {
      dz[a * B + b] = z[a * B + b] > 0 ? (dz[a * B + b] - mean) * factor : 0.0f;
    }
  }
}

extern "C" __global__ void constraints_clip_forward(const float* __restrict__ z, float* __restrict__ y, unsigned n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = z[i] < 0 ? 0.0f : z[i] > 1 ? 1.0f : z[i];
}

extern "C" __global__ void constraints_clip_backward(const float* __restrict__ gradient, const float* __restrict__ z,
                                                     float* __restrict__ dz, unsigned n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) dz[i] = z[i] > 0 && z[i] < 1 ? gradient[i] : 0.0f;
}
