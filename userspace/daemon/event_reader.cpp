// SPDX-License-Identifier: Apache-2.0
#include "daemon/event_reader.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include <bpf/libbpf.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>

namespace ctd {
namespace {

constexpr std::size_t kBatch = 1024;
// The datapath wakes the reader when the ring was empty, which costs it 2 µs. Events of this time are read at once.
constexpr int kGatherMs = 2;

}  // namespace

Result<std::unique_ptr<EventReader>> EventReader::start(int ring_fd, ctd_rt* rt, EventHub& hub) {
  std::unique_ptr<EventReader> reader(new EventReader(rt, hub));
  __atomic_store_n(&rt->event_mask, 0, __ATOMIC_RELAXED);  // an earlier daemon may have been listening
  reader->stop_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!reader->stop_) return fail_errno(errno, "eventfd");
  reader->ring_ = ring_buffer__new(ring_fd, take, reader.get(), nullptr);
  if (!reader->ring_) return fail_errno(errno, "mapping the ring of events");
  // Signals belong to the daemon's own thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  reader->thread_ = std::thread([r = reader.get()] { r->run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  hub.set_source([r = reader.get()](uint16_t wanted) { r->listen(wanted); });
  return reader;
}

EventReader::~EventReader() {
  hub_.set_source(nullptr);
  __atomic_store_n(&rt_->event_mask, 0, __ATOMIC_RELAXED);
  if (thread_.joinable()) {
    eventfd_write(stop_.get(), 1);
    thread_.join();
  }
  ring_buffer__free(ring_);
}

uint64_t EventReader::lost() const { return __atomic_load_n(&rt_->events_lost, __ATOMIC_RELAXED); }

void EventReader::listen(uint16_t wanted) {
  const std::lock_guard lock(mutex_);
  if (!__atomic_load_n(&rt_->event_mask, __ATOMIC_RELAXED)) {
    // What is left of earlier readers is no news.
    while (ring_buffer__consume(ring_) == -ENOBUFS) batch_.clear();
    batch_.clear();
    lost_ = lost();
  }
  __atomic_store_n(&rt_->event_mask, wanted, __ATOMIC_RELAXED);
}

int EventReader::take(void* context, void* event, std::size_t size) {
  auto& batch = static_cast<EventReader*>(context)->batch_;
  if (size != sizeof(ctd_event)) return -EPROTO;
  std::memcpy(&batch.emplace_back(), event, sizeof(ctd_event));
  return batch.size() >= kBatch ? -ENOBUFS : 0;  // this event is taken, the next call goes on behind it
}

// One batch from the ring to the subscribers. True: there may be more.
bool EventReader::pass_on() {
  std::unique_lock lock(mutex_);
  batch_.clear();
  const int taken = ring_buffer__consume(ring_);
  const auto events = std::exchange(batch_, {});
  const uint64_t now_lost = lost();
  const uint64_t news = now_lost - std::exchange(lost_, now_lost);
  const bool heard = __atomic_load_n(&rt_->event_mask, __ATOMIC_RELAXED) != 0;
  lock.unlock();
  if (taken < 0 && taken != -ENOBUFS) spdlog::error("reading the ring of events: {}", std::strerror(-taken));
  if (!heard) return false;
  hub_.publish(events);
  if (news) {
    spdlog::warn("the ring of events was full: {} are lost", news);
    hub_.lose(news);
  }
  return taken == -ENOBUFS;
}

// False: the reader is to end.
bool EventReader::wait_for_events() const {
  pollfd fds[] = {{stop_.get(), POLLIN, 0}, {ring_buffer__epoll_fd(ring_), POLLIN, 0}};
  while (poll(fds, 2, -1) < 0 && errno == EINTR) {
  }
  return !fds[0].revents;
}

void EventReader::run() {
  while (wait_for_events()) {
    while (pass_on()) {
    }
    pollfd stop{stop_.get(), POLLIN, 0};
    poll(&stop, 1, kGatherMs);
  }
}

}  // namespace ctd
