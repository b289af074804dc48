/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is fixed when the programs are loaded. Userspace sets it in the skeleton's rodata. */
#ifndef CTD_CORE_CONFIG_H
#define CTD_CORE_CONFIG_H

#include <ctd/abi/meta.h>

#include "host/host.h"

#ifdef CTD_HOST_NATIVE
extern struct ctd_config ctd_config;
#else
const volatile struct ctd_config ctd_config = {.hz = 250, .conn_capacity = 65536, .icmp_rate = 1000};
#endif

#endif
