// The exact path: one prepared statement per row, in the order of the rows. It is right for
// everything, and it finds the row that the standby does not take.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apply/exchange.h"
#include "apply/table_map.h"
#include "base/error.h"
#include "proto/row_block.h"

namespace bitacora::apply {

// One thread owns it. Nothing waits for answers here: they come to the exchange's owner.
class ExactPath {
 public:
  explicit ExactPath(Exchange& exchange) : exchange_(exchange) {}

  // `asserted`: the statement itself fails unless it touches exactly one row, so that it may be
  // sent with its COMMIT. Else the answer to Expected::counted is to be looked at.
  Result<void> write(const SharedChanges& batch, const RowOrigin& origin, MappedTable& table,
                     pb::RowOperation operation, const proto::Row& row, bool asserted);
  // The same inside of a guarded section, asserted (see GuardedExchange). `make_ready` before it:
  // what is prepared in a section that fails would be thought to be there. True: it sent something.
  Result<void> write_guarded(const SharedChanges& batch, const RowOrigin& origin,
                             MappedTable& table, pb::RowOperation operation, const proto::Row& row);
  Result<bool> make_ready(const SharedChanges& batch, const RowOrigin& origin, MappedTable& table,
                          pb::RowOperation operation, const proto::Row& row);

  // Valid until the next call here, as long as the row's bytes are.
  Result<const Parameters*> bind(const MappedTable& table,
                                 const std::vector<ParameterSource>& sources,
                                 const proto::Row& row);

  Result<void> truncate(const Truncation& truncation);

  // Call before the rows of a block.
  static void note_formats(MappedTable& table, const pb::Rows& block);

 private:
  Result<PreparedRow*> prepared(MappedTable& table, const RowShape& shape,
                                const SharedChanges& batch, const RowOrigin& origin);
  Result<void> send(const SharedChanges& batch, const RowOrigin& origin, MappedTable& table,
                    const RowShape& shape, const proto::Row& row, Sent sent);

  Exchange& exchange_;
  std::uint64_t statements_ = 0;
  // Reused from row to row.
  Parameters parameters_;
  std::vector<std::string> texts_;
};

}  // namespace bitacora::apply
