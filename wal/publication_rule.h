// What of a table is shipped: [table."shop.orders"] of the sender's configuration file.
#pragma once

#include <string>
#include <vector>

namespace bitacora::wal {

struct PublicationRule {
  std::string pattern;               // of the tables it is for, as in --tables
  std::vector<std::string> columns;  // empty: all of them
  std::string where;                 // SQL, the publication's row filter; empty: every row

  friend bool operator==(const PublicationRule&, const PublicationRule&) = default;
};

}  // namespace bitacora::wal
