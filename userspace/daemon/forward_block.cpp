// SPDX-License-Identifier: Apache-2.0
#include "daemon/forward_block.hpp"

#include <cerrno>

#include <linux/fib_rules.h>
#include <netlink/route/rule.h>

#include "daemon/nl.hpp"

namespace ctd {
namespace {

constexpr u32 kPreference = 1;  // right behind the local table
constexpr u8 kProtocol = 0xc7;  // says whose rule it is: `ip rule` shows "proto 199"

using NlRule = std::unique_ptr<rtnl_rule, NlFree<rtnl_rule_put>>;

Result<NlRule> make_rule(const std::string& device, ctd_family family) {
  NlRule rule(rtnl_rule_alloc());
  if (!rule) return fail_errno(ENOMEM, "routing rule");
  rtnl_rule_set_family(rule.get(), family == CTD_IPV4 ? AF_INET : AF_INET6);
  rtnl_rule_set_prio(rule.get(), kPreference);
  rtnl_rule_set_action(rule.get(), FR_ACT_PROHIBIT);
  rtnl_rule_set_protocol(rule.get(), kProtocol);
  if (const int error = rtnl_rule_set_iif(rule.get(), device.c_str()))
    return fail_nl(error, "routing rule for {}", device);
  return rule;
}

}  // namespace

Result<> block_forwarding(const std::string& device, ctd_family family) {
  const NlSocket socket = CTD_TRY(open_route_socket());
  const NlRule rule = CTD_TRY(make_rule(device, family));
  const int error = rtnl_rule_add(socket.get(), rule.get(), NLM_F_CREATE | NLM_F_EXCL);
  if (error && error != -NLE_EXIST) return fail_nl(error, "adding the rule that prohibits forwarding from {}", device);
  return {};
}

Result<bool> unblock_forwarding(const std::string& device, ctd_family family) {
  const NlSocket socket = CTD_TRY(open_route_socket());
  const NlRule rule = CTD_TRY(make_rule(device, family));
  const int error = rtnl_rule_delete(socket.get(), rule.get(), 0);
  if (error == -NLE_OBJ_NOTFOUND || error == -NLE_AF_NOSUPPORT) return false;
  if (error) return fail_nl(error, "removing the rule that prohibits forwarding from {}", device);
  return true;
}

}  // namespace ctd
