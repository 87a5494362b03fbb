// Asks PostgreSQL what it makes of columns and filters, in a publication that nobody ever sees.
#pragma once

#include <pqxx/pqxx>
#include <string>

#include "base/error.h"
#include "wal/publication_choice.h"

namespace bitacora::wal {

// Spells what the rules say of each table as PostgreSQL does, in choice.wanted.tables. Whatever it
// makes in `tx` it takes back. What PostgreSQL refuses is thrown as it says it, after `refusal` got
// it as an error that names section and table. So does what PostgreSQL would refuse later, when
// the application updates or deletes a row: that is no exception.
Result<void> spell_rules(pqxx::work& tx, const std::string& publication, PublicationChoice& choice,
                         std::optional<Error>& refusal);

// A standby makes no publication: compared with the one that is there, columns by name, filters by
// whether there is one. Tables with a filter, which may be another, are added to `not_compared`.
void take_rules_as_they_are(const std::optional<Publication>& as_is, PublicationChoice& choice,
                            std::vector<std::string>& not_compared);

}  // namespace bitacora::wal
