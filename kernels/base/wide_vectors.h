#pragma once

// On a function that is one plain loop or a few: it is compiled for the vector registers of later
// x86-64 processors too, and the widest that this one has is taken when the program is loaded. As
// nothing is contracted, all give the same bits. Not in builds that instrument code, whose checks
// are not ready when that choice is made; clang 14 has no such choice by level.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COMET_WIDE_VECTORS \
  __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define COMET_WIDE_VECTORS
#endif
