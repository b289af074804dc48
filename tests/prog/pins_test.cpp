// SPDX-License-Identifier: Apache-2.0
#include "daemon/pins.hpp"

#include <cerrno>
#include <iterator>
#include <thread>

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/attach.hpp"
#include "daemon/instance_lock.hpp"
#include "prog/netns.hpp"

namespace ctd {
namespace {

class PinsTest : public NetnsTest {
 protected:
  void SetUp() override {
    NetnsTest::SetUp();
    rundir_ = fmt::format("{}ctd-t-{}", ::testing::TempDir(), getpid());
  }
  void TearDown() override {
    std::filesystem::remove_all(rundir_);
    NetnsTest::TearDown();
  }
  static bool exists(const std::string& path) { return std::filesystem::exists(path); }

  // A pin folder as a daemon leaves it whose namespace has ended since, or is only held open by `held`.
  std::string orphaned_folder(const std::string& instance, Fd* held = nullptr) {
    std::string folder;
    std::thread([&] {
      ASSERT_EQ(unshare(CLONE_NEWNET), 0);
      const Result<std::string> made = make_pin_folder(bpffs_folder(), instance);
      ASSERT_TRUE(made) << made.error().message();
      folder = *made;
      if (have_tcx()) pin_a_link(folder + "/link");
      if (held) *held = Fd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    }).join();
    return folder;
  }
  static void pin_a_link(const std::string& pin) {
    sh("ip link add t0 type veth peer name t1");
    const bpf_insn pass[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    const Fd program(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "pass", "GPL", pass, std::size(pass), nullptr));
    ASSERT_TRUE(attach({"t0", ifindex("t0"), Hook::ingress, pin}, program.get()));
  }
  // The kernel ends a namespace some time after its last user.
  std::vector<PinnedInstance> clean_until_one_is_removed() {
    std::vector<PinnedInstance> removed;
    EXPECT_TRUE(wait_for([&] { return !(removed = clean()).empty(); }));
    EXPECT_EQ(removed.size(), 1u);
    return removed;
  }
  std::vector<PinnedInstance> clean() {
    Result<std::vector<PinnedInstance>> removed = remove_dead_pins(bpffs_folder(), rundir_);
    EXPECT_TRUE(removed) << removed.error().message();
    return std::move(removed).value();
  }

  std::string rundir_;
};

TEST_F(PinsTest, FolderIsKeyedByNamespaceAndInstance) {
  const std::string root = bpffs_folder();
  const Result<std::string> folder = make_pin_folder(root, "lab.1");
  ASSERT_TRUE(folder) << folder.error().message();
  EXPECT_EQ(*folder, fmt::format("{}/ctd/{}/lab+2e1", root, netns_inode().value()));
  EXPECT_EQ(make_pin_folder(root, "lab.1").value(), *folder);
  ASSERT_TRUE(make_pin_folder(root, "two"));

  const auto listed = list_pinned_instances(root);
  ASSERT_TRUE(listed);
  ASSERT_EQ(listed->size(), 2u);
  for (const PinnedInstance& pinned : *listed) {
    EXPECT_EQ(pinned.netns, netns_inode().value());
    EXPECT_TRUE(pinned.instance == "lab.1" || pinned.instance == "two") << pinned.instance;
    const Result<> removed = remove_pin_folder(pinned.folder);
    EXPECT_TRUE(removed) << removed.error().message();
  }
  EXPECT_FALSE(exists(root + "/ctd"));
  EXPECT_TRUE(remove_pin_folder(*folder));  // nothing there any more
}

TEST_F(PinsTest, OtherFileSystemIsRefused) {
  const Result<> checked = check_bpffs("/proc");
  ASSERT_FALSE(checked);
  EXPECT_NE(checked.error().message().find("mount -t bpf bpf /proc"), std::string::npos) << checked.error().message();
}

TEST_F(PinsTest, InodeOfAnEarlierNamespaceIsNotTakenForIt) {
  const std::string root = bpffs_folder();
  const std::string folder = make_pin_folder(root, "old").value();
  const std::string netns_folder = std::filesystem::path(folder).parent_path();
  for (const auto& entry : std::filesystem::directory_iterator(netns_folder))
    if (entry.path().filename().string().starts_with("+cookie_")) std::filesystem::remove(entry.path());
  std::filesystem::create_directory(netns_folder + "/+cookie_1");  // the initial namespace's

  ASSERT_TRUE(make_pin_folder(root, "new"));
  EXPECT_FALSE(exists(folder));
  EXPECT_FALSE(exists(netns_folder + "/+cookie_1"));
}

TEST_F(PinsTest, DeadNamespacesAreCleanedUpAndLivingOnesStay) {
  const std::string mine = make_pin_folder(bpffs_folder(), "default").value();
  const std::string dead = orphaned_folder("default");
  ASSERT_NE(mine, dead);
  const std::vector<PinnedInstance> removed = clean_until_one_is_removed();
  ASSERT_EQ(removed.size(), 1u);
  EXPECT_EQ(removed[0].folder, dead);
  EXPECT_FALSE(exists(dead));
  EXPECT_TRUE(exists(mine));
}

TEST_F(PinsTest, NamespaceThatIsOnlyHeldOpenLives) {
  Fd held;
  const std::string folder = orphaned_folder("default", &held);
  EXPECT_TRUE(clean().empty());
  EXPECT_TRUE(exists(folder));
  held.reset();
  clean_until_one_is_removed();
  EXPECT_FALSE(exists(folder));
}

TEST_F(PinsTest, LockIsExclusiveAndNamesItsHolder) {
  EXPECT_EQ(InstanceLock::holder(rundir_, "default").value(), 0);
  Result<InstanceLock> lock = InstanceLock::take(rundir_, "default");
  ASSERT_TRUE(lock) << lock.error().message();
  EXPECT_EQ(InstanceLock::holder(rundir_, "default").value(), getpid());
  ASSERT_TRUE(InstanceLock::take(rundir_, "other"));

  const Result<InstanceLock> second = InstanceLock::take(rundir_, "default");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), EBUSY);
  EXPECT_NE(second.error().message().find(fmt::format("already running as process {} ", getpid())), std::string::npos)
      << second.error().message();

  ASSERT_TRUE(lock->remove_file());
  EXPECT_FALSE(exists(rundir_ + "/default"));
  EXPECT_TRUE(InstanceLock::take(rundir_, "default"));
}

TEST_F(PinsTest, LockEndsWithItsHolder) {
  const pid_t child = fork();
  if (child == 0) {
    const Result<InstanceLock> lock = InstanceLock::take(rundir_, "default");
    _exit(lock ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_TRUE(exists(rundir_ + "/default/lock"));
  EXPECT_EQ(InstanceLock::holder(rundir_, "default").value(), 0);
  EXPECT_TRUE(InstanceLock::take(rundir_, "default"));
}

TEST_F(PinsTest, PinsOfALockedInstanceStay) {
  const std::string dead = orphaned_folder("locked");
  int ready[2];
  int finish[2];
  ASSERT_EQ(pipe(ready) | pipe(finish), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(finish[1]);
    const Result<InstanceLock> lock = InstanceLock::take(rundir_, "locked");
    char byte = lock ? 'y' : 'n';
    (void)!write(ready[1], &byte, 1);
    (void)!read(finish[0], &byte, 1);  // until the parent closes
    _exit(0);
  }
  char byte = 0;
  EXPECT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'y');
  // The other one is found dead, so that this one must have been looked at, and kept.
  orphaned_folder("free");
  const std::vector<PinnedInstance> removed = clean_until_one_is_removed();
  EXPECT_TRUE(!removed.empty() && removed[0].instance == "free");
  EXPECT_TRUE(exists(dead));
  for (const int fd : {ready[0], ready[1], finish[0], finish[1]}) close(fd);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  clean_until_one_is_removed();
  EXPECT_FALSE(exists(dead));
}

}  // namespace
}  // namespace ctd
