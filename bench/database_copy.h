// A database as often as wanted, each time with the same content in the same places.
#pragma once

#include <string>

namespace bitacora::bench {

// The same connection to another database of its server. `conninfo` is keywords, no URI.
std::string in_database(const std::string& conninfo, const std::string& database);

class DatabaseCopy {
 public:
  // A new database `name` with what `start` holds, to which nobody else may be connected meanwhile;
  // the role needs CREATEDB. The server writes a checkpoint, so that none is due soon.
  DatabaseCopy(const std::string& start, std::string name);
  DatabaseCopy(const DatabaseCopy&) = delete;
  DatabaseCopy& operator=(const DatabaseCopy&) = delete;
  ~DatabaseCopy();  // drops it

  const std::string& conninfo() const { return conninfo_; }

 private:
  std::string start_;
  std::string name_;
  std::string conninfo_;
};

}  // namespace bitacora::bench
