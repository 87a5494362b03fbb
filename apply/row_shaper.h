// Rewrites rows of the master for a target in another shape: columns left out, constants added.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "proto/row_block.h"

namespace bitacora::apply {

// A constant as the standby's column takes it.
struct ConstantValue {
  proto::ValueKind kind = proto::ValueKind::kBinary;
  std::string bytes;
};

// Thread-safe.
class RowShaper {
 public:
  // `sources` are the columns that stay, of the `source_columns` that rows arrive with.
  RowShaper(std::vector<std::size_t> sources, std::vector<ConstantValue> constants,
            std::size_t source_columns);

  // The same rows in the target's shape, as the only part of a batch of their own. kNetwork: the
  // block is malformed.
  Result<std::shared_ptr<const pb::ChangeBatch>> shape(const pb::Rows& block) const;

 private:
  void shape(const proto::Tuple& from, proto::Tuple& to) const;

  std::vector<std::size_t> sources_;
  std::vector<ConstantValue> constants_;
  std::size_t source_columns_;
};

}  // namespace bitacora::apply
