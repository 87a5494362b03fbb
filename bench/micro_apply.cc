// What the applier does with rows before the standby sees them, and the checkpoint.
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

#include "apply/checkpoint.h"
#include "apply/copy_format.h"
#include "apply/net_changes.h"
#include "base/check.h"
#include "bench/pair.h"
#include "bench/played_changes.h"
#include "bench/subject.h"
#include "proto/row_block.h"

namespace bitacora::bench {
namespace {

constexpr int kSavesMax = 200;

apply::TablePlan plan_of(std::size_t columns) {
  apply::TablePlan plan;
  plan.columns.resize(columns);
  plan.locator = {0};
  return plan;
}

// The blocks of the relation with most columns.
std::vector<pb::Rows> blocks_of(const PlayedChanges& changes) {
  return blocks(changes, changes.name == "bulk" ? kOrders : kAccounts);
}

template <class Take>
void each_row(const std::vector<pb::Rows>& blocks, std::size_t columns, Take take) {
  proto::Row row;
  for (const auto& block : blocks) {
    proto::RowBlockReader reader(block, columns);
    while (!reader.done()) {
      CHECK(reader.next(row).ok());
      take(block, row);
    }
  }
}

struct Size {
  std::size_t rows = 0;
  std::size_t bytes = 0;
};

Size size_of(const std::vector<pb::Rows>& blocks) {
  Size size;
  for (const auto& block : blocks) {
    size.rows += block.count();
    size.bytes += block.tuples().size();
  }
  return size;
}

// From blocks to what is to be written.
Subject net_changes(const PlayedChanges& changes) {
  const auto size = size_of(blocks_of(changes));
  return {"net_changes/" + changes.name, size.rows, size.bytes, 0, [changes] {
            return [plan = plan_of(changes.columns), all = blocks_of(changes)] {
              apply::NetChanges net(plan);
              each_row(all, plan.columns.size(), [&](const pb::Rows& block, const proto::Row& row) {
                CHECK(net.add(block.operation(), row));
              });
              const auto effect = net.effect();
              CHECK(!effect.inserts.empty() || !effect.updates.empty());
            };
          }};
}

// `left_out`: the standby computes the last column, so that tuples have to be looked into.
Subject build_copy(const PlayedChanges& changes, bool left_out) {
  const auto size = size_of(blocks_of(changes));
  return {(left_out ? "copy_some_columns/" : "copy_whole/") + changes.name, size.rows, size.bytes,
          0, [changes, left_out] {
            auto all = std::make_shared<const std::vector<pb::Rows>>(blocks_of(changes));
            std::vector<std::string_view> tuples;
            each_row(*all, changes.columns, [&](const pb::Rows&, const proto::Row& row) {
              tuples.push_back(row.new_bytes);
            });
            std::vector<std::size_t> columns(changes.columns - 1);
            std::iota(columns.begin(), columns.end(), 0);
            return [=, out = std::string()]() mutable {
              out.clear();
              apply::begin_copy(out);
              for (const auto tuple : tuples) {
                if (left_out) {
                  apply::append_columns(out, tuple, columns);
                } else {
                  out += tuple;
                }
              }
              apply::end_copy(out);
              CHECK(all->size() <= out.size());
            };
          }};
}

struct CheckpointOfOurs {
  explicit CheckpointOfOurs(const std::string& path)
      : directory(path), checkpoint(apply::Checkpoint::open(path + "/data").value()) {}

  WorkingDirectory directory;
  apply::Checkpoint checkpoint;
  apply::CheckpointState state = {};
};

// Durable each time: mostly the disk's time.
Subject save_checkpoint() {
  return {"checkpoint/save", 1, 0, kSavesMax, [] {
            auto path = (std::filesystem::temp_directory_path() / "bitacora-micro-XXXXXX").string();
            CHECK(mkdtemp(path.data()) != nullptr);
            auto made = std::make_shared<CheckpointOfOurs>(path);
            return [made] {
              ++made->state.progress.applied_lsn.value;
              CHECK(made->checkpoint.save(made->state).ok());
            };
          }};
}

}  // namespace

std::vector<Subject> apply_subjects() {
  std::vector<Subject> subjects;
  for (const auto& changes : played_changes()) {
    subjects.push_back(net_changes(changes));
    subjects.push_back(build_copy(changes, false));
    subjects.push_back(build_copy(changes, true));
  }
  subjects.push_back(save_checkpoint());
  return subjects;
}

}  // namespace bitacora::bench
