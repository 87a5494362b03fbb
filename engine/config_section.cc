#include "engine/config_section.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/config_file.h"

namespace bitacora::engine {

std::optional<std::string> spelled(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  return std::nullopt;
}

std::string ConfigSection::key() const { return name_.substr(name_.find('.') + 1); }

Error ConfigSection::bad(const std::string& key, const std::string& what,
                         const std::string& hint) const {
  const auto* node = key.empty() ? nullptr : table_->get(key);
  const auto line = (node == nullptr ? table_->source() : node->source()).begin.line;
  return {ErrorCode::kConfiguration,
          fmt::format("--config {}: line {}: {}{}{}: {}", path_, line, name_,
                      key.empty() ? "" : ": ", key, what),
          hint};
}

Result<void> ConfigSection::expect_keys(const std::vector<std::string>& known) const {
  for (const auto& [key, node] : *table_) {
    const std::string name(key.str());
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const auto meant = nearest(name, known);
    return bad(name, "unknown key",
               meant.empty() ? fmt::format("known are {}", fmt::join(known, ", "))
                             : "did you mean " + meant + "?");
  }
  return {};
}

Result<std::optional<std::string>> ConfigSection::text(const std::string& key) const {
  const auto* node = table_->get(key);
  if (node == nullptr) return std::optional<std::string>{};
  const auto* text = node->as_string();
  if (text == nullptr)
    return bad(key, "wants a string", fmt::format("for example: {} = \"...\"", key));
  return std::optional(text->get());
}

Result<std::optional<bool>> ConfigSection::flag(const std::string& key) const {
  const auto* node = table_->get(key);
  if (node == nullptr) return std::optional<bool>{};
  const auto* flag = node->as_boolean();
  if (flag == nullptr)
    return bad(key, "wants true or false", fmt::format("for example: {} = true", key));
  return std::optional(flag->get());
}

Result<std::optional<std::vector<std::string>>> ConfigSection::texts(const std::string& key) const {
  using List = std::optional<std::vector<std::string>>;
  const auto* node = table_->get(key);
  if (node == nullptr) return List{};
  if (const auto* text = node->as_string()) return List(std::vector{text->get()});
  const auto* list = node->as_array();
  const bool strings =
      list != nullptr && std::all_of(list->begin(), list->end(),
                                     [](const toml::node& item) { return item.is_string(); });
  if (!strings)
    return bad(key, "wants a list of strings", fmt::format("for example: {} = [\"...\"]", key));
  std::vector<std::string> texts;
  for (const auto& item : *list) texts.push_back(item.as_string()->get());
  return List(std::move(texts));
}

Result<ConfigSection::Texts> ConfigSection::text_by_key() const {
  Texts texts;
  for (const auto& [key, node] : *table_) {
    const std::string name(key.str());
    const auto text = spelled(node);
    if (!text) return bad(name, "wants a string", fmt::format("for example: {} = \"...\"", name));
    texts.emplace_back(name, *text);
  }
  return texts;
}

Result<ConfigSection::Texts> ConfigSection::text_by_key(const std::string& key) const {
  const auto* node = table_->get(key);
  if (node == nullptr) return Texts{};
  const auto* table = node->as_table();
  if (table == nullptr)
    return bad(key, "wants a table", fmt::format("for example: {} = {{ name = \"value\" }}", key));
  return ConfigSection(path_, name_ + "." + key, *table).text_by_key();
}

Result<std::vector<ConfigSection>> ConfigSection::sections() const {
  std::vector<ConfigSection> sections;
  for (const auto& [key, node] : *table_) {
    const std::string name(key.str());
    const auto* table = node.as_table();
    if (table == nullptr)
      return bad(name, "wants a table", fmt::format("write [{}.\"{}\"]", name_, name));
    sections.emplace_back(path_, name_ + "." + name, *table);
  }
  return sections;
}

}  // namespace bitacora::engine
