#include "kernels/base/host_limits.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

namespace comet {
namespace {

// A tree with the few files of /proc and /sys that are read.
class HostLimitsTest : public ::testing::Test {
 protected:
  HostLimitsTest()
      : root_(std::filesystem::path(::testing::TempDir()) /
              ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(root_);
    Write("proc/meminfo", "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    800 kB\n");
  }
  ~HostLimitsTest() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  HostLimits Read() const { return ReadHostLimits(root_.string()); }

 private:
  const std::filesystem::path root_;
};

TEST_F(HostLimitsTest, TheMachineLimitsWhereNoGroupDoes) {
  EXPECT_EQ(Read().memory_total_bytes, 1000 * 1024);
  EXPECT_EQ(Read().memory_free_bytes, 800 * 1024);
  EXPECT_GE(Read().num_cpus, 1);
}

// As a kernel of more CPUs than the usual mask holds answers.
TEST(NumAffinityCpus, AMaskThatIsTooSmallGrows) {
  EXPECT_EQ(NumAffinityCpus(0), NumAffinityCpus());
  EXPECT_EQ(NumAffinityCpus(0), static_cast<int>(std::thread::hardware_concurrency()));
}

TEST_F(HostLimitsTest, TheTightestGroupAboveTheProcessCounts) {
  Write("proc/self/cgroup", "0::/outer/inner\n");
  Write("sys/fs/cgroup/outer/memory.max", "409600\n");
  Write("sys/fs/cgroup/outer/memory.current", "300000\n");
  Write("sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 100000\n");
  Write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  Write("sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n");
  Write("sys/fs/cgroup/outer/cpu.max", "50000 100000\n");

  EXPECT_EQ(Read().memory_total_bytes, 409600);
  EXPECT_EQ(Read().memory_free_bytes, 209600);
  EXPECT_EQ(Read().num_cpus, 1);
}

TEST_F(HostLimitsTest, ReadsTheMemoryControllerOfVersionOne) {
  Write("proc/self/cgroup", "4:cpu,cpuacct:/x\n3:memory:/jobs/7\n");
  Write("sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes", "500000\n");
  Write("sys/fs/cgroup/memory/jobs/7/memory.usage_in_bytes", "600000\n");

  EXPECT_EQ(Read().memory_total_bytes, 500000);
  EXPECT_EQ(Read().memory_free_bytes, 0);
}

TEST_F(HostLimitsTest, AGroupAsTheRootOfItsNamespaceIsFound) {
  Write("proc/self/cgroup", "0::/\n");
  Write("sys/fs/cgroup/memory.max", "100000\n");
  Write("sys/fs/cgroup/memory.current", "40000\n");

  EXPECT_EQ(Read().memory_free_bytes, 60000);
}

}  // namespace
}  // namespace comet
