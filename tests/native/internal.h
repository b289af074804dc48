/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the emulation say to each other. */
#ifndef CTD_TESTS_NATIVE_INTERNAL_H
#define CTD_TESTS_NATIVE_INTERNAL_H

#include "host/native.h"

void native_maps_reset(void);
void native_rings_reset(void);
void native_kernel_reset(u32 seed);

#endif
