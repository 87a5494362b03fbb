// Which tables each receiver may have, by the name in its certificate: the sections
// [receivers.NAME] of the sender's configuration file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/name_pattern.h"
#include "proto/batch_filter.h"
#include "transport/peer.h"
#include "wal/published_tables.h"

namespace bitacora::engine {

class ConfigSection;

// What one receiver is sent: what it may have, and of that what it wants.
class ReceiverScope {
 public:
  ReceiverScope(TablePatterns may, TablePatterns wants)
      : may_(std::move(may)), wants_(std::move(wants)) {}

  bool matches(const std::string& schema, const std::string& table) const {
    return may_.matches(schema, table) && wants_.matches(schema, table);
  }
  // Empty: every table.
  proto::BatchFilter::Takes takes() const;
  // Leaves out the others, and the types that only those have.
  wal::PublishedTables narrowed(wal::PublishedTables published) const;
  // Of what it wants those patterns that match nothing that it may have.
  std::vector<std::string> idle_patterns(const wal::PublishedTables& published) const;

 private:
  TablePatterns may_;
  TablePatterns wants_;
};

// What one receiver may have.
class Grant {
 public:
  Grant(std::string receiver, TablePatterns tables)
      : receiver_(std::move(receiver)), tables_(std::move(tables)) {}

  const TablePatterns& tables() const { return tables_; }

  // kConfiguration: it may not have the table.
  Result<void> check(const std::string& schema, const std::string& table) const;
  // `wants` are patterns as in --tables. Those with wildcards mean what it may have of them; one
  // that is a table's name is refused as by check(). kConfiguration also for one that is no
  // pattern.
  Result<ReceiverScope> scope(const std::vector<std::string>& wants) const;

 private:
  std::string receiver_;  // as messages say it
  TablePatterns tables_;
};

// Copies are cheap enough; after read() it does not change.
class ReceiverGrants {
 public:
  friend bool operator==(const ReceiverGrants& a, const ReceiverGrants& b) {
    const bool same_limits =
        a.within_ == b.within_ || (a.within_ && b.within_ && *a.within_ == *b.within_);
    return a.sections_ == b.sections_ && same_limits;
  }

  // While one becomes the other: what both give. Whom only these know may try again later.
  ReceiverGrants within(const ReceiverGrants& others) const;

  // kConfiguration: a receiver without tables, an unknown key, a pattern that is none.
  Result<void> read(const ConfigSection& receivers);

  // Of a receiver that gave itself this name. Its certificate's names count; without TLS, on
  // loopback, its own does. A section that says the name exactly comes before one with * and ?, of
  // those the one with most other characters, and of these the first in the alphabet. Without
  // sections everybody may have everything. kConfiguration: no section is for it.
  Result<Grant> find(const std::string& receiver, const transport::Peer& peer) const;

 private:
  struct Section {
    std::string name;
    std::vector<std::string> texts;  // of the patterns
    TablePatterns tables;

    friend bool operator==(const Section& a, const Section& b) {
      return a.name == b.name && a.texts == b.texts;
    }
  };
  Result<Grant> find_here(const std::string& receiver, const transport::Peer& peer) const;
  const Section* best(const std::vector<std::string>& names) const;

  std::vector<Section> sections_;  // in the order of their names
  std::shared_ptr<const ReceiverGrants> within_;
};

}  // namespace bitacora::engine
