#include "emulator.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "The emulation changes stacks by x86-64 instructions."
#endif

// Saves the callee's registers and the stack pointer, and goes on from another stack's. x86-64, System V.
extern "C" void emulated_change_stack(void** from, void* to);
asm(R"(
.text
.globl emulated_change_stack
.hidden emulated_change_stack
.type emulated_change_stack, @function
emulated_change_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulated_change_stack, .-emulated_change_stack
)");

namespace emulated {

namespace {

constexpr size_t kStack = 128 << 10;
constexpr size_t kSharedStatic = 48 << 10, kSharedMost = 227 << 10;  // bytes a block may have; sm_90's most
constexpr int kInvalidConfiguration = 9;

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

struct Fiber {
  std::unique_ptr<char[]> stack{new char[kStack]};
  void* top = nullptr;        // where it stands, while another runs
  void* sanitizer = nullptr;  // AddressSanitizer's own stack of it
  Dim index;
  bool ended = false;
  const int* gate = nullptr;  // it waits while *gate == closed
  int closed = 0;
  Place place{nullptr, 0};
  const char* what = "";
  std::vector<Copy> copies;  // not committed
  std::deque<std::vector<Copy>> groups;
};

struct Warp {
  int generation = 0, arrived = 0, alive = 0;
  uint64_t value[32], result[32];
  int argument[32];
  bool here[32];
  Collective which = nullptr;
  Place place{nullptr, 0};
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  void* scheduler = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_size = 0;
  void* scheduler_sanitizer = nullptr;
  Fiber* running = nullptr;
  int number = 0;  // of the running thread
  int alive = 0, generation = 0, arrived = 0, count = 0, counted = 0;
  Place place{nullptr, 0};
  Dim index, size, grid;
  const std::function<void()>* thread = nullptr;
  std::string fault;
  std::vector<unsigned char> memory = std::vector<unsigned char>(kSharedMost + 64);
  size_t used = 0, allowed = kSharedStatic, granted = kSharedStatic;
  std::map<const void*, void*> variables;
  int error = 0;
};

Block block;

Counts* counts = nullptr;
// Threads run one after the other: what belongs to one instruction of a warp is the n-th at its place, of each lane,
// since the warp last met. Of the running block.
std::map<std::array<int, 3>, int> nth;                        // thread, the warp's generation, line
using Lanes = std::map<uintptr_t, std::map<uintptr_t, int>>;  // how many, by sector and by address
std::map<std::array<int, 4>, Lanes> instructions;             // by warp, generation, line, n-th

std::mt19937& random_numbers() {
  static std::mt19937 numbers([] {
    const char* seed = std::getenv("NEURAL3D_EMULATED_SEED");
    return unsigned(seed ? std::atoi(seed) : 0);
  }());
  return numbers;
}

std::string text(Place place) { return std::string(place.file) + ":" + std::to_string(place.line); }

void to_fiber(Fiber& fiber) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&block.scheduler_sanitizer, fiber.stack.get(), kStack);
#endif
  emulated_change_stack(&block.scheduler, fiber.top);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(block.scheduler_sanitizer, nullptr, nullptr);
#endif
}

void to_scheduler() {
  Fiber& fiber = *block.running;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(fiber.ended ? nullptr : &fiber.sanitizer, block.scheduler_stack, block.scheduler_size);
#endif
  emulated_change_stack(&fiber.top, block.scheduler);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fiber.sanitizer, &block.scheduler_stack, &block.scheduler_size);
#endif
}

// Ends the block: its fibers are left where they are.
void fault(const std::string& what) {
  if (block.fault.empty()) block.fault = what;
  to_scheduler();
}

void open_barrier() {
  block.counted = block.count, block.arrived = block.count = 0;
  ++block.generation;
}

void open_warp(Warp& warp) {
  for (int lane = 0; lane < 32; ++lane)
    if (warp.here[lane]) warp.result[lane] = warp.which(warp.value, lane, warp.argument[lane]);
  std::memset(warp.here, 0, sizeof(warp.here));
  std::memset(warp.value, 0, sizeof(warp.value));
  warp.arrived = 0;
  ++warp.generation;
  if (counts) ++counts->collectives;
}

void entry() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack, &block.scheduler_size);
#endif
  (*block.thread)();
  if (block.arrived) fault("a thread ends while others wait at a barrier, " + text(block.place));
  block.running->ended = true;
  Warp& warp = block.warps[block.number / 32];
  --block.alive, --warp.alive;
  if (warp.alive && warp.arrived == warp.alive) open_warp(warp);
  to_scheduler();
}

void wait(const int& gate, const char* what, Place place) {
  Fiber& fiber = *block.running;
  fiber.gate = &gate, fiber.closed = gate, fiber.what = what, fiber.place = place;
  to_scheduler();
}

void prepare(Fiber& fiber, unsigned i) {
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(fiber.stack.get(), kStack);  // frames that never returned
#endif
  const Dim& size = block.size;
  fiber.index = Dim(i % size.x, i / size.x % size.y, i / size.x / size.y);
  fiber.ended = false, fiber.gate = nullptr, fiber.copies.clear(), fiber.groups.clear();
  // As a call leaves it: six registers and where to return to, 16 bytes aligned before.
  auto* top = reinterpret_cast<uint64_t*>((reinterpret_cast<uintptr_t>(fiber.stack.get()) + kStack) / 16 * 16);
  *--top = 0;
  *--top = reinterpret_cast<uint64_t>(&entry);
  for (int k = 0; k < 6; ++k) *--top = 0;
  fiber.top = top;
}

std::string waiting() {
  std::map<std::string, int> where;
  for (const Fiber& fiber : block.fibers)
    if (!fiber.ended) ++where[std::string(fiber.what) + " at " + text(fiber.place)];
  std::string all;
  for (const auto& [place, threads] : where)
    all += (all.empty() ? "" : ", ") + std::to_string(threads) + " at a " + place;
  return all;
}

void run_block(unsigned threads) {
  block.alive = int(threads), block.generation = block.arrived = block.count = 0, block.fault.clear();
  block.warps.assign((threads + 31) / 32, Warp());
  std::memset(block.memory.data(), 0xff, block.memory.size());
  block.variables.clear();
  while (block.fibers.size() < threads) block.fibers.emplace_back();
  for (unsigned i = 0; i < block.fibers.size(); ++i) {
    block.fibers[i].ended = true;
    if (i < threads) prepare(block.fibers[i], i), ++block.warps[i / 32].alive;
  }
  std::vector<unsigned> order(threads);
  std::iota(order.begin(), order.end(), 0u);
  while (block.alive) {
    std::shuffle(order.begin(), order.end(), random_numbers());
    bool moved = false;
    for (unsigned i : order) {
      Fiber& fiber = block.fibers[i];
      if (fiber.ended || (fiber.gate && *fiber.gate == fiber.closed)) continue;
      moved = true, block.running = &fiber, block.number = int(i);
      to_fiber(fiber);
      if (!block.fault.empty()) throw std::runtime_error("emulated CUDA: " + block.fault);
    }
    if (!moved) throw std::runtime_error("emulated CUDA: threads wait for each other: " + waiting());
  }
  const auto fewer = [](const auto& a, const auto& b) { return a.second < b.second; };
  for (const auto& [place, lanes] : instructions)
    for (const auto& [sector, of] : lanes) counts->turns += std::max_element(of.begin(), of.end(), fewer)->second;
  nth.clear(), instructions.clear();
}

}  // namespace

const Dim& thread_index() { return block.running->index; }
const Dim& block_index() { return block.index; }
const Dim& block_size() { return block.size; }
const Dim& grid_size() { return block.grid; }

int barrier(int yes, Place place) {
  if (block.arrived && (block.place.line != place.line || std::strcmp(block.place.file, place.file)))
    fault("threads of a block wait at different barriers, " + text(block.place) + " and " + text(place));
  if (block.alive < int(block.size.x * block.size.y * block.size.z))
    fault("a barrier that some threads of the block never reach, " + text(place));
  block.place = place, block.count += yes;
  if (++block.arrived == block.alive)
    open_barrier();
  else
    wait(block.generation, "barrier", place);
  return block.counted;
}

uint64_t collective(unsigned mask, uint64_t value, int argument, Collective which, Place place) {
  Warp& warp = block.warps[block.number / 32];
  const int lane = block.number % 32;
  if (mask != ~0u) fault("a collective of a part of a warp, " + text(place) + ", which is not emulated");
  if (warp.arrived && (warp.place.line != place.line || std::strcmp(warp.place.file, place.file)))
    fault("lanes of a warp are at different collectives, " + text(warp.place) + " and " + text(place));
  warp.place = place, warp.which = which;
  warp.value[lane] = value, warp.argument[lane] = argument, warp.here[lane] = true;
  if (++warp.arrived == warp.alive)
    open_warp(warp);
  else
    wait(warp.generation, "collective", place);
  return warp.result[lane];
}

void* shared(const void* variable, size_t bytes, size_t alignment) {
  void*& place = block.variables[variable];
  if (!place) {
    block.used = (block.used + alignment - 1) / alignment * alignment;
    place = dynamic_shared();
    place = static_cast<unsigned char*>(place) + block.used;
    block.used += bytes;
    if (block.used > block.allowed) fault("more shared memory than a block may have");
  }
  return place;
}

void* dynamic_shared() {
  return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(block.memory.data()) + 15) / 16 * 16);
}

int most_shared() {
  const char* kilobytes = std::getenv("NEURAL3D_EMULATED_SHARED");
  return kilobytes ? std::atoi(kilobytes) << 10 : int(kSharedMost);
}

bool allow_shared(int bytes) {
  if (bytes < 0 || bytes > most_shared()) return false;
  block.granted = std::max(kSharedStatic, size_t(bytes));
  return true;
}

void require_shared(const void* address, size_t bytes, Place place) {
  const auto* at = static_cast<const unsigned char*>(address);
  const auto* from = static_cast<const unsigned char*>(dynamic_shared());
  if (at < from || at + bytes > from + block.used)
    fault("an address outside of the block's shared memory, " + text(place));
  if (reinterpret_cast<uintptr_t>(address) % bytes) fault("an address that is not aligned, " + text(place));
}

void copy_later(void* to, const void* from, size_t bytes) { block.running->copies.push_back({to, from, bytes}); }

void commit_copies() {
  block.running->groups.push_back(std::move(block.running->copies));
  block.running->copies.clear();
}

void wait_for_copies(int groups) {
  auto& waiting = block.running->groups;
  for (; int(waiting.size()) > groups; waiting.pop_front())
    for (const Copy& copy : waiting.front()) std::memcpy(copy.to, copy.from, copy.bytes);
}

void count_atomic(const void* address, Place place) {
  if (!counts) return;
  const auto at = reinterpret_cast<uintptr_t>(address), from = reinterpret_cast<uintptr_t>(dynamic_shared());
  if (at >= from && at < from + block.used) {
    ++counts->shared_atomics;
    return;
  }
  ++counts->atomics;
  const int warp = block.number / 32, generation = block.warps[warp].generation;
  ++instructions[{warp, generation, place.line, nth[{block.number, generation, place.line}]++}][at / 32][at];
}

int take_error() { return std::exchange(block.error, 0); }

void launch(Dim grid, Dim size, size_t bytes, const std::function<void()>& thread) {
  const size_t granted = std::exchange(block.granted, kSharedStatic), threads = size_t(size.x) * size.y * size.z;
  const bool possible = grid.x && grid.y && grid.z && grid.x < (1u << 31) && grid.y < (1u << 16) &&
                        grid.z < (1u << 16) && threads && threads <= 1024 && size.z <= 64 && bytes <= granted;
  if (!possible) {
    block.error = kInvalidConfiguration;
    return;
  }
  block.grid = grid, block.size = size, block.thread = &thread;
  block.allowed = std::max(kSharedStatic, granted);
  std::vector<uint64_t> order(uint64_t(grid.x) * grid.y * grid.z);
  std::iota(order.begin(), order.end(), uint64_t(0));
  std::shuffle(order.begin(), order.end(), random_numbers());
  for (const uint64_t i : order) {
    block.index = Dim(unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y));
    block.used = bytes;
    run_block(unsigned(threads));
  }
}

}  // namespace emulated

// Counts from now on, into *to; null: no longer.
extern "C" __attribute__((visibility("default"))) void emulated_count(emulated::Counts* to) { emulated::counts = to; }
