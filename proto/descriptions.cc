#include "proto/descriptions.h"

#include "base/check.h"

namespace bitacora::proto {

void Descriptions::take_in(const pb::ChangeBatch& batch) {
  for (const auto& part : batch.parts()) {
    if (part.has_type()) types_[part.type().oid()] = part;
    if (part.has_relation()) relations_[part.relation().oid()] = part;
  }
}

std::string Descriptions::encoded() const {
  pb::ChangeBatch batch;
  for (const auto& [oid, part] : types_) *batch.add_parts() = part;
  for (const auto& [oid, part] : relations_) *batch.add_parts() = part;
  std::string bytes;
  const bool serialized = batch.SerializeToString(&bytes);
  CHECK(serialized);
  return bytes;
}

}  // namespace bitacora::proto
