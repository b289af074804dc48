// SPDX-License-Identifier: Apache-2.0
// What ends a TCP connection and what only pretends to: RST (RFC 5961), SYN on a known connection, reopening.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core_tcp_talk.hpp"

namespace ctd::test {
namespace {

constexpr auto kOk = "counts", kPass = "passes";

Segment rst(std::uint32_t seq, std::optional<std::uint32_t> ack = {}) {
  return {.flags = static_cast<std::uint8_t>(kRst | (ack ? kAck : 0)), .seq = seq, .ack = ack.value_or(0)};
}
Segment fin(std::uint32_t seq, std::uint32_t ack) { return {.flags = kFin | kAck, .seq = seq, .ack = ack}; }

// The client has acknowledged 101 of the server's, the server 51 of the client's.
struct Talk : TcpTalk {
  Talk() {
    establish();
    client({.len = 50});
    server({.ack = 51, .len = 100});
    client({.seq = 51, .ack = 101});
  }
};

TEST(TcpReset, ExactOnesEndIt) {
  {
    Talk t;
    EXPECT_EQ(t.server(rst(101)), kOk);
    EXPECT_EQ(t.state(), "CLOSE");
    EXPECT_EQ(t.conn().timeout, 10 * kHz);
  }
  {
    Talk t;
    EXPECT_EQ(t.client(rst(51, 101)), kOk);
    EXPECT_EQ(t.state(), "CLOSE");
  }
}

TEST(TcpReset, InWindowOnesAreForTheReceiverToJudge) {
  Talk t;
  EXPECT_EQ(t.server(rst(600)), kOk);
  EXPECT_EQ(t.state(), "ESTABLISHED");
  EXPECT_EQ(t.conn().timeout, 10 * kHz) << "its receiver answers, or is gone";
  EXPECT_EQ(t.client({.seq = 51, .ack = 101}), kOk) << "the challenge ACK";
  EXPECT_EQ(t.conn().timeout, 300 * kHz) << "some of what the server has sent seems to be lost";
  EXPECT_EQ(t.server(rst(101)), kOk) << "the answer to that is exact";
  EXPECT_EQ(t.state(), "CLOSE");
}

TEST(TcpReset, OutsideOnesAreInvalid) {
  Talk t;
  EXPECT_EQ(t.server(rst(100)), "tcp_rst") << "before what was acknowledged";
  EXPECT_EQ(t.server(rst(0)), "tcp_rst");
  EXPECT_EQ(t.server(rst(90000)), "tcp_window") << "behind the window";
  EXPECT_EQ(t.client(rst(50, 101)), "tcp_rst");
  EXPECT_EQ(t.client(rst(51, 5000)), "tcp_window") << "acknowledges what was never sent";
  EXPECT_EQ(t.state(), "ESTABLISHED");
}

TEST(TcpReset, AZeroAcknowledgementIsNone) {
  Talk t;
  Segment s = rst(101, 0);
  s.ack = 0u - 1000;  // the client's initial number is 1000: 0 on the wire
  EXPECT_EQ(t.server(s), kOk);
  EXPECT_EQ(t.state(), "CLOSE");
}

TEST(TcpReset, BehindItsSendersLastDataItIsExact) {
  Talk t;
  t.server({.seq = 101, .ack = 51, .len = 40});
  EXPECT_EQ(t.server(rst(141)), kOk) << "the client has not acknowledged these 40";
  EXPECT_EQ(t.state(), "CLOSE");
}

TEST(TcpReset, WhileClosingTheyAllCount) {
  Talk t;
  t.client(fin(51, 101));
  EXPECT_EQ(t.server(rst(70000)), kOk);
  EXPECT_EQ(t.state(), "CLOSE");
}

TEST(TcpReset, RefusedSynIsForgottenAtOnce) {
  TcpTalk t;
  t.client(syn());
  Segment s = rst(0, 1);
  EXPECT_EQ(t.server(s), kOk);
  EXPECT_EQ(t.conn().timeout, 0u);
  EXPECT_EQ(CTD_CTL_CLASS(t.conn().ctl), CTD_CLASS_UNANSWERED) << "no reason to promote it";
  t.w.sweep(3);
  EXPECT_EQ(t.w.connections().size(), 0u);
  EXPECT_EQ(t.w.broken(), "");
}

TEST(TcpReset, ARefusedConnectionIsNoneForWhatComesNext) {
  TcpTalk t;
  t.client(syn());
  t.server(rst(0, 1));
  EXPECT_EQ(t.client(syn()), kOk) << "another connection, at once";
  EXPECT_EQ(t.state(), "SYN_SENT");
  EXPECT_EQ(t.conn().count[0].packets, 1u);
  EXPECT_EQ(t.w.broken(), "");
}

TEST(TcpReset, AForgedRefusalIsInvalid) {
  TcpTalk t;
  t.client(syn());
  EXPECT_EQ(t.server(rst(0, 7777)), "tcp_window");
  EXPECT_EQ(t.server(synack()), kOk);
}

TEST(TcpReset, TheClientGivesUp) {
  TcpTalk t;
  t.client(syn());
  EXPECT_EQ(t.client(rst(1)), kOk);
  EXPECT_EQ(t.conn().timeout, 0u);
  EXPECT_FALSE(t.conn().status & CTD_STATUS_SEEN_REPLY);
}

// RFC 5961, 4.2, on a connection that is alive: the SYN passes, the server answers with an ACK, nothing has changed.
TEST(TcpSynOnEstablished, IsAnsweredWithAChallenge) {
  Talk t;
  Segment s = syn();
  s.seq = 300;
  EXPECT_EQ(t.client(s), kPass);
  EXPECT_EQ(t.server({.seq = 101, .ack = 51}), kOk);
  EXPECT_EQ(t.state(), "ESTABLISHED");
  EXPECT_EQ(t.client({.seq = 51, .ack = 101, .len = 10}), kOk);
  EXPECT_EQ(t.server(synack()), kPass) << "an old SYN/ACK";
  EXPECT_EQ(t.server(syn()), "tcp_state") << "servers do not open";
}

// The client has lost the connection: its RST answers the challenge and it opens anew.
TEST(TcpSynOnEstablished, ARebootedClientComesBack) {
  Talk t;
  Segment again = syn();
  again.seq = 300000;
  EXPECT_EQ(t.client(again), kPass);
  EXPECT_EQ(t.server({.seq = 101, .ack = 51}), kOk);
  EXPECT_EQ(t.client(rst(51)), kOk) << "from the challenge's acknowledgement";
  EXPECT_EQ(t.state(), "CLOSE");
  EXPECT_EQ(t.client(again), kOk);
  EXPECT_EQ(t.state(), "SYN_SENT");
  EXPECT_EQ(t.conn().count[0].packets, 1u) << "another connection";
}

// The server has lost it: it answers the SYN, and we follow both.
TEST(TcpSynOnEstablished, ServerAndClientBeginAnew) {
  Talk t;
  Segment again = syn({.window = 2000, .scale = 5});
  again.seq = 300000;
  EXPECT_EQ(t.client(again), kPass);
  Segment answer = synack({.scale = 3});
  answer.seq = 700000;
  answer.ack = 300002;
  EXPECT_EQ(t.server(answer), kPass) << "acknowledges something else";
  answer.ack = 300001;
  t.client(again);
  EXPECT_EQ(t.server(answer), kOk);
  EXPECT_EQ(t.state(), "SYN_RECV");
  EXPECT_EQ(t.conn().win[0].scale, 5);
  EXPECT_EQ(t.conn().win[1].scale, 3);
  EXPECT_EQ(t.client({.seq = 300001, .ack = 700001}), kOk);
  EXPECT_EQ(t.state(), "ESTABLISHED");
  EXPECT_EQ(t.client({.seq = 51, .ack = 700001}), kPass) << "the old numbers are void";
}

TEST(TcpSynOnEstablished, TheServerRefusesIt) {
  Talk t;
  Segment again = syn();
  again.seq = 300000;
  t.client(again);
  EXPECT_EQ(t.server(rst(0, 300001)), kOk);
  EXPECT_EQ(t.state(), "CLOSE");
}

TEST(TcpSynOnEstablished, ItsOwnSenderCannotRefuseIt) {
  Talk t;
  Segment again = syn();
  again.seq = 300000;
  t.client(again);
  EXPECT_EQ(t.client(rst(600000, 300001)), "tcp_window") << "whoever forges a SYN could forge this as well";
  EXPECT_EQ(t.state(), "ESTABLISHED");
}

TEST(TcpHalfOpen, AChallengeToTheSynAndItsReset) {
  TcpTalk t;
  t.client(syn());
  EXPECT_EQ(t.server({.seq = 4000, .ack = 9000}), kPass) << "the server still has an old connection";
  Segment s = rst(9000);
  EXPECT_EQ(t.client(s), kOk) << "the client ends that one";
  EXPECT_EQ(t.state(), "CLOSE");
  EXPECT_EQ(t.client(syn()), kOk);
  EXPECT_EQ(t.state(), "SYN_SENT");
}

TEST(TcpLastAck, AChallengeIsNotTheLastAck) {
  Talk t;
  t.client(fin(51, 101));
  t.server(fin(101, 52));
  EXPECT_EQ(t.state(), "LAST_ACK");
  Segment again = syn();
  again.seq = 300000;
  EXPECT_EQ(t.client(again), kPass);
  EXPECT_EQ(t.server({.seq = 102, .ack = 52}), kPass);
  EXPECT_EQ(t.state(), "LAST_ACK");
  EXPECT_EQ(t.client({.seq = 52, .ack = 102}), kOk);
  EXPECT_EQ(t.state(), "TIME_WAIT");
}

TEST(TcpReopen, FromTimeWait) {
  for (bool server : {false, true}) {
    Talk t;
    t.client(fin(51, 101));
    t.server(fin(101, 52));
    t.client({.seq = 52, .ack = 102});
    EXPECT_EQ(t.state(), "TIME_WAIT");
    Segment again = syn();
    again.seq = 100000;
    if (server) {
      // The roles change: what opens is the server, and this gateway lets nobody open from outside.
      EXPECT_EQ(t.server(again), "dropped");
      EXPECT_EQ(t.w.connections().size(), 0u);
    } else {
      EXPECT_EQ(t.client(again), kOk);
      EXPECT_EQ(t.state(), "SYN_SENT");
      EXPECT_EQ(t.conn().count[0].packets, 1u);
    }
    EXPECT_EQ(t.w.broken(), "");
  }
}

TEST(TcpReopen, AfterItsOwnResetOnly) {
  Segment again = syn();
  again.seq = 100000;
  {
    Talk t;
    t.client(rst(51, 101));
    EXPECT_EQ(t.client(again), kOk);
    EXPECT_EQ(t.conn().count[0].packets, 1u);
  }
  {
    Talk t;
    t.server(rst(101));
    EXPECT_EQ(t.client(again), kPass) << "the server's RST may have been forged";
    EXPECT_EQ(t.state(), "CLOSE");
    Segment answer = synack();
    answer.ack = 100001;
    answer.seq = 900;
    EXPECT_EQ(t.server(answer), kOk) << "but its answer is not";
    EXPECT_EQ(t.state(), "SYN_RECV");
  }
}

}  // namespace
}  // namespace ctd::test
