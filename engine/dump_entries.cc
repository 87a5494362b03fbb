#include "engine/dump_entries.h"

#include <charconv>
#include <optional>

#include <fmt/format.h>

namespace bitacora::engine {
namespace {

constexpr std::string_view kHead = "--\n-- TOC entry ";
constexpr std::string_view kCompleted = "-- Completed on ";
constexpr std::string_view kComplete = "--\n-- PostgreSQL database dump complete\n";
constexpr std::string_view kAccessMethod = "SET default_table_access_method = ";
constexpr std::string_view kSetting = "SET default_";

Error unreadable(std::string_view why) {
  return {ErrorCode::kMaster, fmt::format("pg_restore's output cannot be understood: {}", why)};
}

bool in_identifier(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$' || (static_cast<unsigned char>(c) & 0x80u) != 0;
}

// Goes over SQL token by token, so that what stands in quotes is not taken for anything else.
// Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html
class SqlScanner {
 public:
  explicit SqlScanner(std::string_view text) : text_(text) {}

  std::size_t at() const { return at_; }
  bool done() const { return at_ >= text_.size(); }
  bool at_line_start() const { return at_ == 0 || text_[at_ - 1] == '\n'; }
  std::string_view rest() const { return text_.substr(at_); }
  void skip_to(std::size_t at) { at_ = at; }

  // False: a quote that is not closed.
  bool step() {
    const char c = text_[at_];
    if (c == '\'') return skip_quoted('\'', escapes_by_backslash());
    if (c == '"') return skip_quoted('"', false);
    if (c == '$' && !follows_identifier(at_)) return skip_dollar_quoted();
    if (rest().starts_with("--")) return skip_behind("\n");
    if (rest().starts_with("/*")) return skip_behind("*/");
    ++at_;
    return true;
  }

 private:
  bool follows_identifier(std::size_t at) const { return at > 0 && in_identifier(text_[at - 1]); }
  bool escapes_by_backslash() const {
    return at_ > 0 && (text_[at_ - 1] == 'E' || text_[at_ - 1] == 'e') &&
           !follows_identifier(at_ - 1);
  }
  bool skip_behind(std::string_view end) {
    const auto found = text_.find(end, at_ + 1);
    at_ = found == std::string_view::npos ? text_.size() : found + end.size();
    return found != std::string_view::npos;
  }
  bool skip_quoted(char quote, bool backslash) {
    for (++at_; at_ < text_.size(); ++at_) {
      if (backslash && text_[at_] == '\\') {
        ++at_;
      } else if (text_[at_] == quote) {
        ++at_;
        if (done() || text_[at_] != quote) return true;
      }
    }
    return false;
  }
  bool skip_dollar_quoted() {
    auto end = at_ + 1;
    while (end < text_.size() && text_[end] != '$' && in_identifier(text_[end])) ++end;
    if (end == text_.size() || text_[end] != '$') {  // a parameter, $1
      ++at_;
      return true;
    }
    const auto tag = text_.substr(at_, end + 1 - at_);
    at_ = end;
    return skip_behind(tag);
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

// Takes `prefix` from `text` and answers what follows, up to `end`, which is taken too.
std::optional<std::string_view> take(std::string_view& text, std::string_view prefix,
                                     std::string_view end) {
  if (!text.starts_with(prefix)) return std::nullopt;
  const auto found = text.find(end, prefix.size());
  if (found == std::string_view::npos) return std::nullopt;
  const auto taken = text.substr(prefix.size(), found - prefix.size());
  text.remove_prefix(found + end.size());
  return taken;
}

template <class Number>
bool read_number(std::string_view text, Number& value) {
  return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc{};
}

void read_numbers(std::string_view text, std::vector<int>& values) {
  while (!text.empty()) {
    const auto space = std::min(text.find(' '), text.size());
    if (int value = 0; read_number(text.substr(0, space), value)) values.push_back(value);
    text.remove_prefix(std::min(space + 1, text.size()));
  }
}

// "Name: N; Type: T; Schema: S; Owner: O"; from the end, since a name may hold anything.
bool read_names(std::string_view line, pb::SchemaEntry& entry) {
  constexpr std::string_view kType = "; Type: ";
  constexpr std::string_view kSchema = "; Schema: ";
  const auto owner = line.rfind("; Owner: ");
  if (owner == std::string_view::npos) return false;
  line = line.substr(0, owner);
  const auto schema = line.rfind(kSchema);
  if (schema == std::string_view::npos) return false;
  const auto type = line.rfind(kType, schema);
  if (type == std::string_view::npos) return false;
  const auto type_begin = type + kType.size();
  const auto its_schema = line.substr(schema + kSchema.size());
  entry.set_name(std::string(line.substr(0, type)));
  entry.set_type(std::string(line.substr(type_begin, schema - type_begin)));
  if (its_schema != "-") entry.set_schema(std::string(its_schema));
  return true;
}

// Takes the head of an entry from `text`.
std::optional<DumpEntry> take_head(std::string_view& text) {
  DumpEntry head;
  const auto id = take(text, kHead, " (class ");
  const auto catalog = take(text, "", " OID ");
  const auto oid = take(text, "", ")\n");
  if (!id || !catalog || !oid || !read_number(*id, head.id) ||
      !read_number(*catalog, head.catalog) || !read_number(*oid, head.oid))
    return std::nullopt;
  if (const auto dependencies = take(text, "-- Dependencies: ", "\n"))
    read_numbers(*dependencies, head.dependencies);
  const auto names = take(text, "-- Name: ", "\n");
  if (!names || !read_names(*names, head.entry)) return std::nullopt;
  while (text.starts_with("-- ") && take(text, "-- ", "\n")) continue;  // where its data is
  if (!take(text, "--\n", "\n")) return std::nullopt;
  return head;
}

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \n") + 1 - begin);
}

// What is set behind an entry is meant for those that follow.
void take_settings(std::string_view& sql, std::string& access_method) {
  for (sql = trimmed(sql);; sql = trimmed(sql)) {
    const auto line_begin = sql.rfind('\n') == std::string_view::npos ? 0 : sql.rfind('\n') + 1;
    const auto line = sql.substr(line_begin);
    if (!line.starts_with(kSetting)) return;
    if (line.starts_with(kAccessMethod)) access_method = line;
    sql = sql.substr(0, line_begin);
  }
}

bool says_something(std::string_view sql) {
  while (!sql.empty()) {
    const auto line = sql.substr(0, sql.find('\n'));
    if (!line.empty() && !line.starts_with("--")) return true;
    sql.remove_prefix(std::min(line.size() + 1, sql.size()));
  }
  return false;
}

class Cutter {
 public:
  explicit Cutter(std::string_view text) : text_(text), scanner_(text) {}

  Result<std::vector<DumpEntry>> run() {
    while (!scanner_.done()) {
      const auto rest = scanner_.rest();
      if (scanner_.at_line_start() && (rest.starts_with(kCompleted) || rest.starts_with(kComplete)))
        break;
      if (scanner_.at_line_start() && rest.starts_with(kHead)) {
        if (!begin_entry()) return unreadable(rest.substr(0, rest.find('\n', kHead.size())));
      } else if (!scanner_.step()) {
        return unreadable("something in quotes does not end");
      }
    }
    end_entry();
    return std::move(entries_);
  }

 private:
  bool begin_entry() {
    end_entry();
    auto text = scanner_.rest();
    current_ = take_head(text);
    begin_ = text_.size() - text.size();
    scanner_.skip_to(begin_);
    return current_.has_value();
  }

  void end_entry() {
    auto sql = text_.substr(begin_, scanner_.at() - begin_);
    const auto set_before = access_method_;
    take_settings(sql, access_method_);
    if (!current_ || !says_something(sql)) return;
    auto& entry = current_->entry;
    // heap is what a server has unless somebody says otherwise.
    const bool stored = entry.type() == "TABLE" || entry.type() == "MATERIALIZED VIEW";
    if (stored && !set_before.empty() && !set_before.ends_with("= heap;")) {
      entry.set_sql(fmt::format("{}\n{}\nRESET default_table_access_method;", set_before, sql));
    } else {
      entry.set_sql(std::string(sql));
    }
    entries_.push_back(std::move(*current_));
    current_.reset();
  }

  std::string_view text_;
  SqlScanner scanner_;
  std::vector<DumpEntry> entries_;
  std::optional<DumpEntry> current_;
  std::size_t begin_ = 0;
  std::string access_method_;
};

}  // namespace

Result<std::vector<DumpEntry>> cut_dump(std::string_view text) { return Cutter(text).run(); }

}  // namespace bitacora::engine
