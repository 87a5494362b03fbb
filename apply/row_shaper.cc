#include "apply/row_shaper.h"

#include <utility>

#include "base/check.h"

namespace bitacora::apply {

RowShaper::RowShaper(std::vector<std::size_t> sources, std::vector<ConstantValue> constants,
                     std::size_t source_columns)
    : sources_(std::move(sources)),
      constants_(std::move(constants)),
      source_columns_(source_columns) {}

void RowShaper::shape(const proto::Tuple& from, proto::Tuple& to) const {
  to.clear();
  for (const auto source : sources_) to.push_back(from[source]);
  for (const auto& constant : constants_) to.push_back({constant.kind, constant.bytes});
}

Result<std::shared_ptr<const pb::ChangeBatch>> RowShaper::shape(const pb::Rows& block) const {
  proto::RowBlockReader reader(block, source_columns_);
  proto::RowBlockBuilder builder(block.relation_oid(), block.operation());
  proto::Row from;
  proto::Row to;
  while (!reader.done()) {
    RETURN_IF_ERROR(reader.next(from));
    if (proto::has_old_tuple(block.operation())) shape(from.old_tuple, to.old_tuple);
    if (proto::has_new_tuple(block.operation())) shape(from.new_tuple, to.new_tuple);
    // The columns of a block have one format each, and so have those that stay.
    CHECK(builder.append(block.relation_oid(), block.operation(), to));
  }
  auto shaped = std::make_shared<pb::ChangeBatch>();
  builder.finish(*shaped->add_parts()->mutable_rows());
  return std::shared_ptr<const pb::ChangeBatch>(std::move(shaped));
}

}  // namespace bitacora::apply
