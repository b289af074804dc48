// SPDX-License-Identifier: Apache-2.0
// Programs on devices: TCX links where the kernel has them (6.6 and later), else clsact filters.
// Everything happens in the calling thread's network namespace.
#pragma once

#include <optional>
#include <string>

#include <ctd/abi/types.h>

#include "lib/result.hpp"

namespace ctd {

enum class Hook { ingress, egress };
enum class Mechanism { tcx, clsact };

struct Attachment {
  std::string device;  // for messages; the ifindex counts
  u32 ifindex = 0;
  Hook hook = Hook::ingress;
  // TCX: where the link is pinned. clsact: its folder (in a bpffs) holds a mark, the empty folder `clsact_IFINDEX`,
  // if the qdisc was made by us. The folder must exist.
  std::string link_pin;
};

// Whether the kernel has TCX links; asked once.
bool have_tcx();
inline Mechanism best_mechanism() { return have_tcx() ? Mechanism::tcx : Mechanism::clsact; }

// Makes `prog_fd` (sched_cls; the caller keeps it) run at the hook. A program that an earlier attach() left there is
// replaced without a gap; the programs of others stay. A pinned link of a device that is gone, or of another
// ifindex, is replaced by a new one.
//
// What both mechanisms understand of a program's return code: TC_ACT_UNSPEC (the next program), OK, SHOT, REDIRECT.
Result<> attach(const Attachment& at, int prog_fd, Mechanism mechanism = best_mechanism());

// Removes what attach() left, and the clsact qdisc if we made it and nobody else uses it. Nothing there, or no such
// device any more, is success.
Result<> detach(const Attachment& at, Mechanism mechanism = best_mechanism());

// Id of our program at the hook, 0 if there is none.
Result<u32> attached_program(const Attachment& at, Mechanism mechanism = best_mechanism());

// Interface index of the device that the TCX link pinned there is on, 0 if the device is gone; nothing if what is
// pinned there is no TCX link.
Result<std::optional<u32>> pinned_link_device(const std::string& pin);

}  // namespace ctd
