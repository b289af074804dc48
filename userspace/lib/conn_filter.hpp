// SPDX-License-Identifier: Apache-2.0
// ConnFilter: which connections are meant, in the words of conntrack's command line. One list of fields makes the
// options of ctctl and the query parameters of the control API.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ctd/abi/ct.h>

#include "lib/conn_policies.hpp"
#include "lib/conn_values.hpp"
#include "lib/result.hpp"
#include "lib/time.hpp"

namespace ctd {

class ConnFilter {
 public:
  struct Field {
    std::string_view name;    // "orig-src": the API's parameter, and what errors call it
    std::string_view option;  // "-s,--src,--orig-src": ctctl's
    std::string_view value;   // "ADDRESS[/PREFIX]", for help; begins with '[' if it may be missing
    std::string_view text;    // one line for people
    Result<> (*set)(ConnFilter&, std::string_view value);
    bool value_optional() const { return value.empty() || value.front() == '['; }
  };
  static std::span<const Field> fields();

  // A field and what it is to be; an empty value is a missing one.
  struct Term {
    std::string name;
    std::string value;
  };
  // All terms must hold; none: every connection matches. Errors name the field, what was given, what would be right.
  // policies: without them the name of a policy is not looked at, and matches() passes over it.
  static Result<ConnFilter> make(std::span<const Term> terms, const ConnPolicies* policies = nullptr);
  // With what `terms` leave out of a tuple's kind: ICMP's code and GRE's keys are 0, and so is the zone.
  static std::vector<Term> completed(std::vector<Term> terms);

  // now: only a filter by `expires` looks at it.
  bool matches(const ctd_conn& conn, const KernelClock& now) const;
  bool empty() const { return terms_ == 0; }

  // The one tuple that the filter names as a whole, zone included: a look-up finds what matches.
  std::optional<ctd_tuple> tuple() const;
  // The connections' unique ids, if it names any.
  std::span<const uint64_t> ids() const { return ids_; }

 private:
  enum Side { kOrigSrc, kOrigDst, kReplySrc, kReplyDst, kSides };
  struct Prefix {
    Address address;
    unsigned bits;
    bool holds(const ctd_addr& other) const;
    bool whole() const { return bits == (address.family == CTD_IPV6 ? 128 : 32); }
  };
  struct Range {
    uint32_t first, last;
    bool holds(uint32_t n) const { return n >= first && n <= last; }
    bool single() const { return first == last; }
  };
  enum Nat { kSrcNat = 1, kDstNat = 2, kAnyNat = 4, kNoNat = 8 };
  static constexpr std::size_t kStateKinds = 4;  // three protocols with states of their own, and all others
  using States = std::array<uint32_t, kStateKinds>;

  // A query's or its answer's; what is not given may be anything.
  struct Icmp {
    std::optional<Range> type, code, id;
    bool given() const { return type || code || id; }
    bool holds(const ctd_tuple& tuple) const;
  };

  static std::string field_names();
  Result<> check() const;
  Result<> check_ports() const;
  Result<> resolve(const ConnPolicies& policies);
  Result<> set_family(ctd_family family);
  Result<> set_address(std::optional<Prefix>& to, std::string_view value);
  Result<> set_nat(Nat nat, std::optional<Prefix>& to, std::string_view value);
  Result<> set_states(std::string_view value);
  Result<> set_classes(std::string_view value);
  Result<> set_ids(std::string_view value);
  bool tuples_match(const ctd_conn& conn) const;
  bool kept_as_wanted(const ctd_conn& conn) const;
  // The tuple of the direction that begins with this side, if it is whole.
  std::optional<ctd_tuple> tuple_from(Side src) const;
  static bool put_single(be16& to, const std::optional<Range>& from);
  bool put_ports(ctd_tuple& tuple, Side src) const;
  bool nat_matches(const ctd_conn& conn) const;
  bool marks_match(const ctd_conn& conn) const;
  static std::size_t state_kind(uint8_t proto);

  uint64_t terms_ = 0;  // a bit for each field that is given
  std::optional<uint8_t> proto_;
  std::optional<ctd_family> family_;
  std::array<std::optional<Prefix>, kSides> address_;
  std::array<std::optional<Range>, kSides> port_;
  std::array<std::optional<Range>, kSides> key_;  // GRE's
  std::array<Icmp, 2> icmp_;                      // by direction
  uint32_t nat_ = 0;
  std::optional<Prefix> nat_src_, nat_dst_;  // what is seen instead
  std::optional<uint16_t> zone_;
  std::optional<Masked> mark_, label_;
  std::optional<States> states_;  // a bit for each state
  uint32_t status_ = 0, not_status_ = 0;
  std::optional<uint32_t> classes_;  // a bit for each enum ctd_conn_class
  std::optional<std::string> policy_;
  std::optional<uint16_t> policy_id_;
  std::optional<Range> expires_;
  std::vector<uint64_t> ids_;
  std::optional<uint64_t> master_;
};

}  // namespace ctd
