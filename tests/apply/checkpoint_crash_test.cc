// Crashes of the machine anywhere in random histories of saves: the checkpoint opens, and holds a
// state that was saved, none older than the last that save() had returned for. What LMDB writes is
// taken down as it writes it. BITACORA_SEED=n plays one history again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "apply/checkpoint.h"
#include "proto/relation.h"
#include "tests/apply/disk_trace.h"

namespace bitacora::apply {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kHistories = 250;
constexpr int kImagesPerHistory = 40;  // half of them after a recovery from the other half
constexpr int kSavesMax = 30;

std::vector<std::uint64_t> seeds() {
  if (const char* seed = std::getenv("BITACORA_SEED")) return {std::strtoull(seed, nullptr, 10)};
  std::vector<std::uint64_t> all;
  for (std::uint64_t seed = 1; seed <= kHistories; ++seed) all.push_back(seed);
  return all;
}

// LSN → what was to be saved: every save of a history has its own.
using States = std::map<std::uint64_t, CheckpointState>;

// What a crash may not take, from the moment the disk has seen so many operations.
struct Promise {
  std::size_t operations = 0;
  std::uint64_t lsn_at_least = 0;  // of the state held; 0: there may be none
  std::string instance;            // empty: none was told to anybody
};

// One life of a data directory, from what an earlier one left.
class History {
 public:
  History(const fs::path& root, const DiskImage& image, Promise promise, States states,
          std::uint64_t seed)
      : random_(seed),
        directory_(fresh(root, image, random_)),
        trace_(directory_, image),
        states_(std::move(states)) {
    promise.operations = 0;
    promises_ = {std::move(promise)};
    open();
  }

  bool opened() const { return checkpoint_.has_value(); }
  const States& states() const { return states_; }

  void run(int saves) {
    for (int i = 0; i < saves && opened() && !testing::Test::HasFailure(); ++i) {
      if (random_() % 6 == 0) {  // the process is killed, the machine goes on
        checkpoint_.reset();
        open();
      } else {
        save();
      }
    }
    checkpoint_.reset();
  }

  // As a crash may leave it, and what must then hold.
  std::pair<DiskImage, Promise> crash() {
    const auto operations = random_() % (trace_.operations() + 1);
    const auto after = std::find_if(promises_.begin(), promises_.end(),
                                    [&](const Promise& p) { return p.operations > operations; });
    return {trace_.crash(operations, random_), *std::prev(after)};
  }

 private:
  static fs::path fresh(const fs::path& directory, const DiskImage& image,
                        std::mt19937_64& random) {
    fs::remove_all(directory);
    fs::create_directories(directory);
    for (const auto& [name, content] : image) {
      std::ofstream(directory / name, std::ios::binary) << content;
    }
    if (image.contains("data.mdb") && random() % 2 == 0) {  // of no use, and it may be anything
      std::string lock(random() % 10'000, '\0');
      if (random() % 2 == 0)
        std::generate(lock.begin(), lock.end(), [&] { return static_cast<char>(random()); });
      std::ofstream(directory / "lock.mdb", std::ios::binary) << lock;
    }
    return directory;
  }

  void promise(std::uint64_t lsn_at_least) {
    promises_.push_back({trace_.operations(), lsn_at_least, checkpoint_->instance()});
  }

  // It must open, and holds what was promised or something newer.
  void open() {
    auto opened = Checkpoint::open(directory_);
    ASSERT_TRUE(opened.ok()) << one_line(opened.error());
    checkpoint_.emplace(std::move(*opened));
    const Promise& last = promises_.back();
    if (!last.instance.empty()) {
      ASSERT_EQ(checkpoint_->instance(), last.instance);
    }
    const auto loaded = checkpoint_->load();
    ASSERT_TRUE(loaded.ok()) << one_line(loaded.error());
    const auto lsn = *loaded ? (*loaded)->progress.applied_lsn.value : 0;
    ASSERT_GE(lsn, last.lsn_at_least);
    if (*loaded) expect_saved(**loaded);
    promise(lsn);
  }

  void expect_saved(const CheckpointState& state) const {
    const auto saved = states_.find(state.progress.applied_lsn.value);
    ASSERT_NE(saved, states_.end()) << "nobody saved " << to_string(state.progress.applied_lsn);
    EXPECT_TRUE(proto::same_identity(state.progress.identity, saved->second.progress.identity));
    EXPECT_EQ(state.spool, saved->second.spool);
  }

  CheckpointState next_state() {
    CheckpointState state;
    Progress& progress = state.progress;
    progress.applied_lsn.value = (states_.empty() ? 0 : states_.rbegin()->first) + 1;
    progress.identity.set_system_identifier(random_());
    progress.identity.set_database(std::string(1 + random_() % 63, 'd'));
    progress.identity.set_slot(std::string(1 + random_() % 63, 's'));
    progress.identity.set_stream(fmt::format("stream {}", random_()));
    if (random_() % 3 != 0) state.spool = SpoolNote{random_(), random_(), MasterLsn{random_()}};
    return state;
  }

  void save() {
    const auto state = next_state();
    const auto lsn = state.progress.applied_lsn.value;
    states_[lsn] = state;
    const auto saved = checkpoint_->save(state);
    ASSERT_TRUE(saved.ok()) << one_line(saved.error());
    promise(lsn);
  }

  std::mt19937_64 random_;
  fs::path directory_;
  DiskTrace trace_;
  States states_;
  std::optional<Checkpoint> checkpoint_;
  std::vector<Promise> promises_;
};

class CheckpointCrash : public testing::Test {
 protected:
  CheckpointCrash() {
    const fs::path memory = "/dev/shm";  // the images count, not the disk below
    auto name =
        ((fs::exists(memory) ? memory : fs::temp_directory_path()) / "bitacora-crash-XXXXXX")
            .string();
    root_ = mkdtemp(name.data());
  }
  ~CheckpointCrash() override { fs::remove_all(root_); }

  // A history, a crash, a recovery that lives on, a crash in that.
  void play(std::uint64_t seed) {
    std::vector<std::pair<DiskImage, Promise>> images;
    States states;
    {
      History history(root_ / "data", {}, {}, {}, seed);
      history.run(static_cast<int>(seed % kSavesMax));
      for (int image = 0; image < kImagesPerHistory / 2; ++image) images.push_back(history.crash());
      states = history.states();
    }
    for (std::size_t image = 0; image < images.size() && !HasFailure(); ++image) {
      SCOPED_TRACE(fmt::format("image {}", image));
      recover_twice(images[image], states, seed * 1000 + image);
    }
  }

 private:
  void recover_twice(const std::pair<DiskImage, Promise>& image, const States& states,
                     std::uint64_t seed) {
    std::pair<DiskImage, Promise> again;
    States more;
    {
      History recovered(root_ / "data", image.first, image.second, states, seed);
      recovered.run(static_cast<int>(seed % 4));
      again = recovered.crash();
      more = recovered.states();
      if (HasFailure()) return;
    }
    SCOPED_TRACE("a crash after the recovery");
    History(root_ / "data", again.first, again.second, more, seed + 1).run(1);
  }

  fs::path root_;
};

TEST_F(CheckpointCrash, WhatWasSavedSurvives) {
  for (const auto seed : seeds()) {
    SCOPED_TRACE(fmt::format("BITACORA_SEED={}", seed));
    play(seed);
    if (HasFailure()) {
      std::cout << "BITACORA_SEED=" << seed << "\n";
      return;
    }
  }
  std::cout << fmt::format("{} crash images\n", seeds().size() * kImagesPerHistory);
}

}  // namespace
}  // namespace bitacora::apply
