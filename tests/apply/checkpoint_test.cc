#include "apply/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>

#include "proto/relation.h"

namespace bitacora::apply {
namespace {

namespace fs = std::filesystem;

CheckpointState at(std::uint64_t lsn) {
  CheckpointState state;
  Progress& progress = state.progress;
  progress.identity.set_system_identifier(18446744073709551615u);
  progress.identity.set_database("tienda");
  progress.identity.set_slot("bitacora_main");
  progress.identity.set_stream("main");
  progress.applied_lsn = MasterLsn{lsn};
  return state;
}

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() {
    auto name = (fs::temp_directory_path() / "bitacora-checkpoint-XXXXXX").string();
    root_ = mkdtemp(name.data());
  }
  ~CheckpointTest() override { fs::remove_all(root_); }

  fs::path directory() const { return root_ / "data"; }

  Checkpoint open() const {
    auto checkpoint = Checkpoint::open(directory());
    EXPECT_TRUE(checkpoint.ok()) << one_line(checkpoint.error());
    return std::move(checkpoint).value();
  }

  void expect_refused(const std::string& why, ErrorCode code = ErrorCode::kConfiguration) const {
    const auto checkpoint = Checkpoint::open(directory());
    ASSERT_FALSE(checkpoint.ok());
    EXPECT_EQ(checkpoint.error().code, code);
    EXPECT_FALSE(checkpoint.error().hint.empty());
    for (const auto& part : {directory().string(), why}) {
      EXPECT_NE(checkpoint.error().message.find(part), std::string::npos)
          << one_line(checkpoint.error());
    }
  }

 private:
  fs::path root_;
};

void expect_stored(const Checkpoint& checkpoint, const CheckpointState& expected) {
  const auto loaded = checkpoint.load();
  ASSERT_TRUE(loaded.ok()) << one_line(loaded.error());
  ASSERT_TRUE(loaded->has_value());
  EXPECT_EQ((*loaded)->progress.applied_lsn, expected.progress.applied_lsn);
  EXPECT_TRUE(proto::same_identity((*loaded)->progress.identity, expected.progress.identity));
  EXPECT_EQ((*loaded)->spool, expected.spool);
}

TEST_F(CheckpointTest, IsEmptyAtFirstThenKeepsTheLastOne) {
  auto checkpoint = open();
  const auto first = checkpoint.load();
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(first->has_value());
  for (const std::uint64_t lsn : {1ul, 0x1'6B37'4DB0ul, 7ul, ~0ul}) {
    ASSERT_TRUE(checkpoint.save(at(lsn)).ok());
    expect_stored(checkpoint, at(lsn));
  }
}

TEST_F(CheckpointTest, RemembersWhatTheSpoolHadAndForgetsItWithTheSpool) {
  auto checkpoint = open();
  auto state = at(42);
  state.spool = SpoolNote{7, 0x1'0000'0001, MasterLsn{43}};
  ASSERT_TRUE(checkpoint.save(state).ok());
  expect_stored(checkpoint, state);
  state.spool.reset();
  ASSERT_TRUE(checkpoint.save(state).ok());
  expect_stored(checkpoint, state);
}

TEST_F(CheckpointTest, SurvivesBeingReopenedAndMoved) {
  std::string instance;
  {
    auto checkpoint = open();
    instance = checkpoint.instance();
    ASSERT_TRUE(checkpoint.save(at(42)).ok());
    Checkpoint moved = std::move(checkpoint);
    expect_stored(moved, at(42));
  }
  EXPECT_EQ(instance.size(), 32u);
  const auto again = open();
  EXPECT_EQ(again.instance(), instance);
  expect_stored(again, at(42));
}

TEST_F(CheckpointTest, DoesNotGrow) {
  constexpr std::uintmax_t kBytesMax = 64u << 10;
  auto checkpoint = open();
  for (std::uint64_t lsn = 1; lsn <= 2000; ++lsn) ASSERT_TRUE(checkpoint.save(at(lsn)).ok());
  EXPECT_LT(fs::file_size(directory() / "data.mdb"), kBytesMax) << "its map is never full";
}

TEST_F(CheckpointTest, EveryDirectoryHasItsOwnInstance) {
  const std::string first = open().instance();
  fs::remove_all(directory());
  EXPECT_NE(open().instance(), first);
}

TEST_F(CheckpointTest, OneAtATimeInThisProcess) {
  {
    const auto held = open();
    expect_refused("another receiver has it open");
  }
  open();
}

TEST_F(CheckpointTest, OneAtATimeAmongProcesses) {
  const auto held = open();
  const pid_t child = fork();
  if (child == 0) _exit(Checkpoint::open(directory()).ok() ? 1 : 0);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "a second process got in";
}

TEST_F(CheckpointTest, AnotherProcessThatWasKilledDoesNotKeepIt) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto held = Checkpoint::open(directory());
    const bool saved = held.ok() && held->save(at(42)).ok();
    if (write(ready[1], saved ? "y" : "n", 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char saved = 'n';
  ASSERT_EQ(read(ready[0], &saved, 1), 1);
  expect_refused("another receiver has it open");
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(saved, 'y');
  expect_stored(open(), at(42));
  close(ready[0]);
  close(ready[1]);
}

void fill(const fs::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

TEST_F(CheckpointTest, RefusesWhatIsNotItsOwn) {
  struct Case {
    const char* name;
    std::function<void(const fs::path&)> make;
    const char* why;
    ErrorCode code = ErrorCode::kConfiguration;
  };
  for (const Case& c : {
           Case{"foreign files",
                [](const fs::path& p) {
                  fs::create_directory(p);
                  fill(p / "notas.txt", "hola");
                },
                "holds files that are not a receiver's"},
           Case{"a file in its place", [](const fs::path& p) { fill(p, ""); }, "cannot be created"},
           Case{"another data.mdb",
                [](const fs::path& p) {
                  fs::create_directory(p);
                  fill(p / "data.mdb", std::string(8192, 'x'));
                },
                "MDB_INVALID", ErrorCode::kState},
           Case{"a data.mdb too short for anything",
                [](const fs::path& p) {
                  fs::create_directory(p);
                  fill(p / "data.mdb", "x");
                },
                "MDB_INVALID", ErrorCode::kState},
       }) {
    SCOPED_TRACE(c.name);
    fs::remove_all(directory());
    c.make(directory());
    expect_refused(c.why, c.code);
  }
}

TEST_F(CheckpointTest, RefusesDamagedFiles) {
  for (const bool cut : {false, true}) {
    SCOPED_TRACE(cut ? "cut off behind the first two pages" : "both first pages overwritten");
    fs::remove_all(directory());
    ASSERT_TRUE(open().save(at(42)).ok());
    const auto file = directory() / "data.mdb";
    if (cut) {
      fs::resize_file(file, 2 * static_cast<std::uintmax_t>(getpagesize()));
    } else {
      std::fstream bytes(file, std::ios::binary | std::ios::in | std::ios::out);
      bytes << std::string(2 * static_cast<std::size_t>(getpagesize()), 'x');
    }
    expect_refused(cut ? "cut off" : "MDB_INVALID", ErrorCode::kState);
  }
}

TEST_F(CheckpointTest, BeginsAnewWhereACrashLeftNothing) {
  fs::create_directories(directory());
  fill(directory() / "data.mdb", "");  // LMDB makes the file before it writes to it
  auto checkpoint = open();
  EXPECT_TRUE(checkpoint.save(at(42)).ok());
}

TEST_F(CheckpointTest, BeginsAnewWhereACrashLeftAHalfMadeOne) {
  fs::create_directories(directory());
  fill(directory() / "new.mdb", std::string(5000, '\0'));
  fill(directory() / "lock.mdb", "");
  {
    auto checkpoint = open();
    EXPECT_TRUE(checkpoint.save(at(42)).ok());
  }
  EXPECT_FALSE(fs::exists(directory() / "new.mdb"));
  expect_stored(open(), at(42));
}

// Root may read everything.
TEST_F(CheckpointTest, RefusesADirectoryItMayNotRead) {
  fs::create_directories(directory());
  fs::permissions(directory(), fs::perms::none);
  fs::permissions(directory().parent_path(), fs::perms::all);
  const pid_t child = fork();
  if (child == 0) {
    constexpr uid_t kNobody = 65534;
    if (geteuid() == 0 && seteuid(kNobody) != 0) _exit(2);
    const auto checkpoint = Checkpoint::open(directory());
    const bool refused = !checkpoint.ok() && checkpoint.error().code == ErrorCode::kConfiguration;
    _exit(refused ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace bitacora::apply
