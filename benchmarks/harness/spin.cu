// Keeps a GPU busy for some nanoseconds, while the host prepares what is to be timed.
extern "C" __global__ void spin(long long nanoseconds) {
#ifdef __CUDA_ARCH__
  long long begin, now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
  do {
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  } while (now - begin < nanoseconds);
#endif
}
