// What pg_dump's entries say of themselves: whether they are there already when the standby refuses
// them, whether they build an index and of which table, and what helps against a refusal.
#pragma once

#include <string>
#include <string_view>

namespace bitacora::apply {

// Whether the refusal of such an entry means that the standby has an object of its kind and name.
bool there_already(std::string_view type, std::string_view sqlstate);

// An index, alone or for a constraint.
bool builds_an_index(std::string_view type, std::string_view sql);

// The table of an index or of an ALTER TABLE, as the SQL spells it; empty: it does not say.
std::string table_of(std::string_view sql);

struct Refusal {
  std::string_view type;    // of the entry
  std::string_view schema;  // empty: it is in none
  std::string_view name;
  std::string_view sqlstate;
  std::string_view role;      // of the session
  std::string_view database;  // the standby's
};

// What a person does about it; empty when nothing is known.
std::string hint_for(const Refusal& refusal);

}  // namespace bitacora::apply
