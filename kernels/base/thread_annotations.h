#pragma once

// Clang's thread safety analysis (-Wthread-safety); nothing under other compilers.
#if defined(__clang__)
#define COMET_GUARDED_BY(mutex) __attribute__((guarded_by(mutex)))
#else
#define COMET_GUARDED_BY(mutex)
#endif
