// Contexts: a stack that can be left and entered again.
//
// x86-64 has its own switch of some 2 ns. Other machines take ucontext, fifty times slower because it saves the
// signal mask; EMULATION_UCONTEXT takes it on x86-64 too, which is how it is tested.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "sanitizers.hpp"

#if !defined(__x86_64__) && !defined(EMULATION_UCONTEXT)
#define EMULATION_UCONTEXT
#endif

#ifdef EMULATION_UCONTEXT
#include <ucontext.h>

namespace emulation {

struct Context {
  ucontext_t context;
};

// Let `context` begin with `entry`, which never returns, on a stack that ends at `top`.
EMULATION_UNSEEN inline void prepare(Context& context, char* bottom, char* top, void (*entry)()) {
  getcontext(&context.context);
  context.context.uc_stack.ss_sp = bottom;
  context.context.uc_stack.ss_size = top - bottom;
  context.context.uc_link = nullptr;
  makecontext(&context.context, entry, 0);
}

EMULATION_UNSEEN inline void switch_context(Context& from, Context& to) { swapcontext(&from.context, &to.context); }

inline uintptr_t stack_pointer() { return reinterpret_cast<uintptr_t>(__builtin_frame_address(0)); }

}  // namespace emulation

#else

namespace emulation {

struct Context {
  void* stack_pointer;  // below the registers that a called function must preserve
};

extern "C" __attribute__((visibility("hidden"))) void emulation_switch(Context* from, Context* to);

// The last two instructions are a return. `ret` would be predicted to go where this context was left last, which is
// wrong each time.
asm(R"(
  .text
  .p2align 4
  .local emulation_switch
  .type emulation_switch, @function
emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq (%rsi), %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmpq *%rcx
  .size emulation_switch, . - emulation_switch
)");

// Let `context` begin with `entry`, which never returns, on a stack that ends at `top`, a multiple of 16.
EMULATION_UNSEEN inline void prepare(Context& context, char*, char* top, void (*entry)()) {
  void** slot = reinterpret_cast<void**>(top);
  *--slot = nullptr;  // where entry would return to: the end for those who walk the stack
  *--slot = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; saved++) *--slot = nullptr;
  context.stack_pointer = slot;
}

EMULATION_UNSEEN inline void switch_context(Context& from, Context& to) { emulation_switch(&from, &to); }

inline uintptr_t stack_pointer() {
  uintptr_t pointer;
  asm("movq %%rsp, %0" : "=r"(pointer));
  return pointer;
}

}  // namespace emulation

#endif
