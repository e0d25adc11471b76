// The memory trace: what each line of a kernel asks of global and of shared memory, and what that costs a GPU.
//
// g++ compiles a kernel as for ThreadSanitizer, which puts a call before every access; the calls come here. Global memory
// is the arrays of the launch, each aligned as a GPU's allocations are; accesses to stacks, constants and the emulator's
// own memory are dropped. The others are put together to the requests of warps: what the lanes of a warp do at one site,
// which is a path of calls, each by its return address, for the same time since the last barrier. Lanes that leave out an
// access in one turn of a loop are thus put together with the next turn of the others. A load of what the thread has
// loaded just before is left out: a compiler keeps that in a register.
//
//   global    a request costs the sectors of 32 bytes that it touches; at best as many as its distinct bytes fill
//   shared    a request costs wavefronts: lanes whose accesses make up 128 bytes go at once (32 of up to 4 bytes, 16 of
//             8, 8 of 16), and such a phase takes as many wavefronts as a bank has different words to give; at best one
#pragma once

#include <math.h>
#include <stdlib.h>

#include "worker.hpp"

namespace emulation {

#ifndef EMULATION_TRACE

inline void begin_trace(const Launch&) {}
inline void end_requests(const Block&) {}
inline void end_block(const Block&) {}
inline void note_collective(const char*, unsigned) {}
inline void note_shared_read(const void*, unsigned) {}
inline void note_copy(const Copy&) {}
inline void note_atomic(const void*, unsigned) {}

#else

#pragma GCC push_options
#pragma GCC optimize("O2")

constexpr unsigned DEPTH = 12, MOST_SITES = 4096, MOST_CALLS = 16, SECTOR = 32, BANKS = 32;
constexpr unsigned SHARED = ~0u;
enum class Kind : unsigned { load, store, copy, atomic };

// The accesses of one site. gzkern/runtime/emulator/shared_library.py has the same fields, and those of Trace.
struct Access {
  const void* path[DEPTH];  // return addresses, the innermost first; null behind the last
  unsigned array;           // among the launch's, or SHARED
  Kind kind;
  unsigned width;  // bytes of a lane
  unsigned long long requests, lanes, bytes, cost, ideal;
};

struct Trace {
  const char* image;  // where the compiled file begins in memory
  unsigned long long blocks, barriers, multiply_adds, loaded_sectors, stored_sectors;  // sectors: different in a block
  struct {
    const char* name;
    unsigned long long lanes;
  } calls[MOST_CALLS];
  unsigned count;
  Access* accesses[MOST_SITES];
};

struct Request {
  unsigned lanes;
  unsigned char bytes[WARP];
  uintptr_t offset[WARP];  // in shared memory; or in the array, all of which begin at a sector
};

struct Site : Access {
  unsigned times[MOST_THREADS];  // since the last barrier
  struct {
    Request* requests;
    unsigned count, room;
  } warps[MOST_THREADS / WARP];
};

// Different sectors, in a table of twice as many slots or more.
struct Sectors {
  uintptr_t* slots;
  size_t room, count;

  EMULATION_UNSEEN void clear() {
    count = 0;
    if (room) memset(slots, 0, room * sizeof *slots);
  }

  EMULATION_UNSEEN void add(uintptr_t sector) {
    if (2 * (count + 1) > room) {
      Sectors larger{static_cast<uintptr_t*>(calloc(room ? 2 * room : 1 << 12, sizeof *slots)),
                     room ? 2 * room : 1 << 12, 0};
      for (size_t slot = 0; slot < room; slot++)
        if (slots[slot]) larger.add(slots[slot]);
      free(slots);
      *this = larger;
    }
    size_t slot = sector * 0x9e3779b97f4a7c15 >> 20 & (room - 1);
    while (slots[slot] && slots[slot] != sector) slot = (slot + 1) & (room - 1);
    count += slots[slot] != sector;
    slots[slot] = sector;
  }
};

extern "C" {
extern __attribute__((visibility("hidden"))) const char __ehdr_start[];  // the linker's: of the compiled file
extern __attribute__((visibility("default"))) Trace emulation_trace;
Trace emulation_trace;
}

struct Tracer {
  const Launch* launch;
  Worker* worker;
  Site* sites[2 * MOST_SITES];  // a hash table
  Sectors loaded, stored;       // of this block
  const void* just_loaded[MOST_THREADS];
};
inline Tracer tracer;

EMULATION_UNSEEN inline bool within(const void* address, const void* begin, size_t bytes) {
  return reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(begin) < bytes;
}

EMULATION_UNSEEN inline void sort(uintptr_t* values, unsigned count) {
  for (unsigned i = 1; i < count; i++) {
    const uintptr_t value = values[i];
    unsigned to = i;
    for (; to > 0 && values[to - 1] > value; to--) values[to] = values[to - 1];
    values[to] = value;
  }
}

EMULATION_UNSEEN inline void count_sectors(Site& site, const Request& request) {
  constexpr unsigned BYTES = 8;  // bits for an access's bytes below its address
  uintptr_t accesses[WARP];
  unsigned count = 0;
  for (unsigned lane = 0; lane < WARP; lane++)
    if (request.lanes >> lane & 1) accesses[count++] = request.offset[lane] << BYTES | request.bytes[lane];
  sort(accesses, count);
  uintptr_t covered = 0, next_sector = 0, distinct = 0;  // up to where
  Sectors& sectors = site.kind == Kind::store ? tracer.stored : tracer.loaded;
  for (unsigned i = 0; i < count; i++) {
    uintptr_t begin = accesses[i] >> BYTES;
    const uintptr_t end = begin + (accesses[i] & ((1 << BYTES) - 1));
    if (begin < covered) begin = covered;
    if (begin >= end) continue;
    distinct += end - begin;
    covered = end;
    for (uintptr_t sector = begin / SECTOR; sector <= (end - 1) / SECTOR; sector++) {
      if (sector < next_sector) continue;
      next_sector = sector + 1;
      site.cost++;
      sectors.add(sector);
      if (site.kind == Kind::atomic) tracer.stored.add(sector);
    }
  }
  site.ideal += (distinct + SECTOR - 1) / SECTOR;
}

EMULATION_UNSEEN inline void count_wavefronts(Site& site, const Request& request) {
  const unsigned words = site.width < WORD ? 1 : site.width / WORD, together = WARP / words;
  for (unsigned first = 0; first < WARP; first += together) {
    uintptr_t wanted[WARP];
    unsigned count = 0, banks[BANKS] = {}, most = 0;
    for (unsigned lane = first; lane < first + together; lane++)
      if (request.lanes >> lane & 1)
        for (unsigned word = 0; word < words; word++) wanted[count++] = request.offset[lane] / WORD + word;
    sort(wanted, count);
    for (unsigned i = 0; i < count; i++) {
      if (i > 0 && wanted[i] == wanted[i - 1]) continue;
      const unsigned in_bank = ++banks[wanted[i] % BANKS];
      if (in_bank > most) most = in_bank;
    }
    site.cost += most;
    site.ideal += count > 0;
  }
}

EMULATION_UNSEEN inline void finish(Site& site, Request& request) {
  unsigned lanes = 0;
  for (unsigned lane = 0; lane < WARP; lane++) {
    if (!(request.lanes >> lane & 1) || request.bytes[lane] == 0) continue;
    lanes++;
    site.bytes += request.bytes[lane];
  }
  if (lanes > 0) {
    site.requests++;
    site.lanes += lanes;
    if (site.array == SHARED)
      count_wavefronts(site, request);
    else
      count_sectors(site, request);
  }
  request.lanes = 0;
}

// The site that a path of calls leads to, from the frame of the function below it.
EMULATION_UNSEEN inline Site* find_site(unsigned array, Kind kind, unsigned width, void** frame) {
  const void* path[DEPTH] = {};
  uintptr_t hash = array * 0x100ull + static_cast<uintptr_t>(kind) * 0x10 + width;
  for (unsigned depth = 0; depth < DEPTH && frame && frame[1]; depth++, frame = static_cast<void**>(*frame)) {
    path[depth] = frame[1];
    hash = (hash ^ reinterpret_cast<uintptr_t>(frame[1])) * 0x9e3779b97f4a7c15;
  }
  constexpr unsigned SLOTS = 2 * MOST_SITES;
  for (unsigned slot = hash >> 40 & (SLOTS - 1);; slot = (slot + 1) & (SLOTS - 1)) {
    Site*& site = tracer.sites[slot];
    if (!site) {
      if (emulation_trace.count == MOST_SITES) here().block->fail("more than %u places to trace", MOST_SITES);
      site = static_cast<Site*>(calloc(1, sizeof *site));
      memcpy(site->path, path, sizeof path);
      site->array = array;
      site->kind = kind;
      site->width = width;
      emulation_trace.accesses[emulation_trace.count++] = site;
    }
    if (site->array == array && site->kind == kind && site->width == width &&
        memcmp(site->path, path, sizeof path) == 0)
      return site;
  }
}

// An access of this thread: `width` bytes are asked for, `bytes` of them moved; none by a lane that only takes its turn.
EMULATION_UNSEEN inline void note(const void* address, unsigned bytes, unsigned width, Kind kind, void* frame) {
  const Worker* const worker = tracer.worker;
  unsigned array = SHARED;
  uintptr_t offset = 0;
  if (within(address, worker, sizeof *worker)) {
    if (!within(address, worker->shared.bytes, sizeof worker->shared.bytes)) return;
    offset = worker->shared.offset(address);
    if (kind == Kind::store || kind == Kind::atomic) stamp_write(address, bytes);
  } else {
    const Launch& launch = *tracer.launch;
    for (array = 0; array < launch.array_count; array++)
      if (within(address, launch.arrays[array].begin, launch.arrays[array].bytes)) break;
    if (array == launch.array_count) return;
    offset = (array + 1ull << 40) + (static_cast<const char*>(address) - launch.arrays[array].begin);
  }
  Thread& thread = *here().thread;
  const void*& last = tracer.just_loaded[thread.number];
  if (kind == Kind::load && last == address) return;
  last = kind == Kind::load ? address : nullptr;
  Site& site = *find_site(array, kind, width, static_cast<void**>(frame));
  auto& warp = site.warps[thread.warp()];
  const unsigned time = site.times[thread.number]++;
  if (time >= warp.room) {
    warp.room = 2 * warp.room + 8;
    warp.requests = static_cast<Request*>(realloc(warp.requests, warp.room * sizeof(Request)));
  }
  while (warp.count <= time) warp.requests[warp.count++].lanes = 0;
  Request& request = warp.requests[time];
  request.lanes |= 1u << thread.lane();
  request.offset[thread.lane()] = offset;
  request.bytes[thread.lane()] = bytes;
  if (request.lanes == here().block->warps[thread.warp()].lanes) finish(site, request);
}

// Accesses of a type that no instruction has: in pieces that its address allows.
EMULATION_UNSEEN inline void note_range(const char* address, size_t bytes, Kind kind, void* frame) {
  while (bytes > 0) {
    unsigned piece = 16;
    while (piece > bytes || reinterpret_cast<uintptr_t>(address) % piece) piece /= 2;
    note(address, piece, piece, kind, frame);
    address += piece;
    bytes -= piece;
  }
}

EMULATION_UNSEEN inline void begin_trace(const Launch& launch) {
  tracer.launch = &launch;
  tracer.worker = static_cast<Worker*>(launch.memory);
  for (Site*& site : tracer.sites) {
    if (!site) continue;
    for (auto& warp : site->warps) free(warp.requests);
    free(site);
    site = nullptr;
  }
  tracer.loaded.clear();
  tracer.stored.clear();
  emulation_trace = {};
  emulation_trace.image = __ehdr_start;
}

// All threads of the block are at a barrier, or have ended.
EMULATION_UNSEEN inline void end_requests(const Block& block) {
  emulation_trace.barriers++;
  memset(tracer.just_loaded, 0, sizeof tracer.just_loaded);
  for (unsigned i = 0; i < emulation_trace.count; i++) {
    Site& site = *static_cast<Site*>(emulation_trace.accesses[i]);
    for (auto& warp : site.warps) {
      for (unsigned time = 0; time < warp.count; time++) finish(site, warp.requests[time]);
      warp.count = 0;
    }
    memset(site.times, 0, block.size * sizeof site.times[0]);
  }
}

EMULATION_UNSEEN inline void end_block(const Block& block) {
  end_requests(block);
  emulation_trace.barriers--;
  emulation_trace.blocks++;
  emulation_trace.loaded_sectors += tracer.loaded.count;
  emulation_trace.stored_sectors += tracer.stored.count;
  tracer.loaded.clear();
  tracer.stored.clear();
}

EMULATION_UNSEEN inline void note_collective(const char* name, unsigned lanes) {
  for (auto& call : emulation_trace.calls) {
    if (call.name && strcmp(call.name, name)) continue;
    call.name = name;
    call.lanes += __builtin_popcount(lanes);
    return;
  }
}

EMULATION_UNSEEN __attribute__((noinline)) inline void note_shared_read(const void* address, unsigned bytes) {
  note(address, bytes, bytes, Kind::load, __builtin_frame_address(0));
}

EMULATION_UNSEEN __attribute__((noinline)) inline void note_copy(const Copy& copy) {
  note(copy.from, copy.valid, copy.bytes, Kind::copy, __builtin_frame_address(0));
  note(copy.to, copy.bytes, copy.bytes, Kind::copy, __builtin_frame_address(0));
}

EMULATION_UNSEEN __attribute__((noinline)) inline void note_atomic(const void* address, unsigned bytes) {
  note(address, bytes, bytes, Kind::atomic, __builtin_frame_address(0));
}

EMULATION_UNSEEN inline float counted_fmaf(float a, float b, float c) {
  emulation_trace.multiply_adds++;
  return __builtin_fmaf(a, b, c);
}

#pragma GCC pop_options
#endif

}  // namespace emulation

#ifdef EMULATION_TRACE
#pragma GCC push_options
#pragma GCC optimize("O2")
#define EMULATION_HOOK(name, ...) \
  extern "C" EMULATION_UNSEEN __attribute__((visibility("hidden"), noinline)) void __tsan_##name(__VA_ARGS__)
#define EMULATION_ACCESS(prefix, bytes)                                                         \
  EMULATION_HOOK(prefix##read##bytes, void* address) {                                          \
    emulation::note(address, bytes, bytes, emulation::Kind::load, __builtin_frame_address(0));  \
  }                                                                                             \
  EMULATION_HOOK(prefix##write##bytes, void* address) {                                         \
    emulation::note(address, bytes, bytes, emulation::Kind::store, __builtin_frame_address(0)); \
  }
EMULATION_ACCESS(, 1)
EMULATION_ACCESS(, 2)
EMULATION_ACCESS(, 4)
EMULATION_ACCESS(, 8)
EMULATION_ACCESS(, 16)
EMULATION_ACCESS(unaligned_, 2)
EMULATION_ACCESS(unaligned_, 4)
EMULATION_ACCESS(unaligned_, 8)
EMULATION_ACCESS(unaligned_, 16)
EMULATION_HOOK(read_range, void* address, size_t bytes) {
  emulation::note_range(static_cast<char*>(address), bytes, emulation::Kind::load, __builtin_frame_address(0));
}
EMULATION_HOOK(write_range, void* address, size_t bytes) {
  emulation::note_range(static_cast<char*>(address), bytes, emulation::Kind::store, __builtin_frame_address(0));
}
EMULATION_HOOK(init) {}
#undef EMULATION_ACCESS
#undef EMULATION_HOOK
#pragma GCC pop_options
#endif
