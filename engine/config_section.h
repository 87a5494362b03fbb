// A table of the configuration file, such as [table."shop.orders"], read key by key. What is wrong
// is said with file, line and key.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <toml++/toml.h>

#include "base/error.h"

namespace bitacora::engine {

// Refers to the parsed file, which must live as long. All errors are kConfiguration.
class ConfigSection {
 public:
  ConfigSection(std::string path, std::string name, const toml::table& table)
      : path_(std::move(path)), name_(std::move(name)), table_(&table) {}

  // The part of its name behind the dot: shop.orders of [table."shop.orders"].
  std::string key() const;

  // Refuses a key that is none of these, with the nearest one as a hint.
  Result<void> expect_keys(const std::vector<std::string>& known) const;

  // Empty when the key is absent.
  Result<std::optional<std::string>> text(const std::string& key) const;
  Result<std::optional<bool>> flag(const std::string& key) const;
  // One string counts as a list of one.
  Result<std::optional<std::vector<std::string>>> texts(const std::string& key) const;
  using Texts = std::vector<std::pair<std::string, std::string>>;
  // All of its values are strings, in the order of their keys. Numbers and true/false are taken as
  // they are spelled.
  Result<Texts> text_by_key() const;
  // The same of a table in it: columns = { id = "number" }; none when the key is absent.
  Result<Texts> text_by_key(const std::string& key) const;

  // Every value is a table: [table."a.b"] and [table."a.c"].
  Result<std::vector<ConfigSection>> sections() const;

  // An error at a key of it, or without a key at itself.
  Error bad(const std::string& key, const std::string& what, const std::string& hint) const;

 private:
  std::string path_;
  std::string name_;  // as in the file, without brackets and quotes
  const toml::table* table_;
};

// A scalar as the command line would spell it; empty for anything else.
std::optional<std::string> spelled(const toml::node& node);

}  // namespace bitacora::engine
