// SPDX-License-Identifier: Apache-2.0
#include "lib/conn_track_fields.hpp"

#include <array>
#include <cstddef>
#include <cstring>

#include <netinet/in.h>

namespace ctd {
namespace {

#define FIELD(name, member) \
  TrackField { name, offsetof(ctd_conn, member), sizeof(ctd_conn::member) }
// Of one direction; offsetof() takes an index.
#define WINDOW(dir, n, member)                                                                                \
  TrackField {                                                                                                \
    dir "_" #member, offsetof(ctd_conn, win) + n * sizeof(ctd_tcp_window) + offsetof(ctd_tcp_window, member), \
        sizeof(ctd_tcp_window::member)                                                                        \
  }
#define WINDOWS(dir, n) \
  WINDOW(dir, n, end), WINDOW(dir, n, max_end), WINDOW(dir, n, max_win), WINDOW(dir, n, scale), WINDOW(dir, n, flags)
#define ELEMENT(name, member, n) \
  TrackField { name, offsetof(ctd_conn, member) + n * sizeof(ctd_conn::member[0]), sizeof(ctd_conn::member[0]) }
#define MEMBER(name, record, type, member) \
  TrackField { name, offsetof(ctd_conn, record) + offsetof(type, member), sizeof(type::member) }
#define MEMBER_OF(name, record, type, member, n)                                                                     \
  TrackField {                                                                                                       \
    name, offsetof(ctd_conn, record) + offsetof(type, member) + n * sizeof(type::member[0]), sizeof(type::member[0]) \
  }

constexpr std::array kTcp{
    WINDOWS("orig", 0),
    WINDOWS("reply", 1),
    FIELD("last_dir", tcp_last_dir),
    FIELD("last_flags", tcp_last_flags),
    FIELD("last_seq", tcp_last_seq),
    FIELD("last_ack", tcp_last_ack),
    FIELD("last_end", tcp_last_end),
    FIELD("last_win", tcp_last_win),
    FIELD("retrans", tcp_retrans),
    FIELD("syn_flags", tcp_syn_flags),
    FIELD("syn_scale", tcp_syn_scale),
    ELEMENT("orig_max_ack", tcp_max_ack, 0),
    ELEMENT("reply_max_ack", tcp_max_ack, 1),
};
constexpr std::array kSctp{
    MEMBER_OF("orig_vtag", sctp, ctd_sctp_track, vtag, 0),
    MEMBER_OF("reply_vtag", sctp, ctd_sctp_track, vtag, 1),
    MEMBER("flags", sctp, ctd_sctp_track, flags),
    MEMBER_OF("orig_pending", sctp, ctd_sctp_track, pending, 0),
    MEMBER_OF("reply_pending", sctp, ctd_sctp_track, pending, 1),
};
constexpr std::array kDccp{
    MEMBER("handshake_seq", dccp, ctd_dccp_track, handshake_seq), MEMBER_OF("orig_role", dccp, ctd_dccp_track, role, 0),
    MEMBER_OF("reply_role", dccp, ctd_dccp_track, role, 1),       MEMBER("last_type", dccp, ctd_dccp_track, last_type),
    MEMBER("last_dir", dccp, ctd_dccp_track, last_dir),
};

}  // namespace

TrackFields track_fields(uint8_t proto) {
  switch (proto) {
    case IPPROTO_TCP:
      return {"tcp", kTcp};
    case IPPROTO_SCTP:
      return {"sctp", kSctp};
    case IPPROTO_DCCP:
      return {"dccp", kDccp};
    default:
      return {};
  }
}

uint64_t get(const ctd_conn& conn, const TrackField& field) {
  uint64_t value = 0;
  std::memcpy(&value, reinterpret_cast<const char*>(&conn) + field.offset, field.size);
  return value;
}

void set(ctd_conn& conn, const TrackField& field, uint64_t value) {
  std::memcpy(reinterpret_cast<char*>(&conn) + field.offset, &value, field.size);
}

uint64_t limit(const TrackField& field) { return field.size == 8 ? ~0ull : (1ull << field.size * 8) - 1; }

}  // namespace ctd
