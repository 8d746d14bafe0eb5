#pragma once

// Programmatic dependent launch: grids of one stream may overlap. A grid launched so (see launch.h)
// starts once every CTA of the one before has released it or ended, and must wait before it touches
// memory that a grid of the stream may write: not a model's weights and orders, which loading
// wrote. Below sm_90, where grids do not overlap, both do nothing.
namespace comet::cuda {

// Waits until the grids before have ended and what they wrote is visible. Every thread that reads
// or writes global memory calls it, in every kernel: it is what makes a grid's end imply the ends
// of all before it. PTX ISA: "griddepcontrol.wait".
__device__ __forceinline__ void WaitForPreviousGrids() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next grid start when every CTA has called it. PTX ISA:
// "griddepcontrol.launch_dependents".
__device__ __forceinline__ void ReleaseNextGrids() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace comet::cuda
