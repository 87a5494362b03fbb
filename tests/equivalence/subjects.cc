#include "tests/equivalence/subjects.h"

#include <algorithm>
#include <utility>

namespace bitacora::equivalence {
namespace {

using Patterns = std::vector<std::string>;

// What can happen to any row with a key.
const Patterns& of_keys() {
  static const Patterns patterns{
      "INSERT INTO e.{t} ({key}, n) VALUES ({a}, {x}) ON CONFLICT ({key}) DO NOTHING",
      "INSERT INTO e.{t} ({key}, n) VALUES {rows} ON CONFLICT ({key}) DO NOTHING",
      "INSERT INTO e.{t} ({key}, n) VALUES {rows} ON CONFLICT ({key}) DO UPDATE SET n = excluded.n",
      "UPDATE e.{t} SET n = {x} WHERE {key} = {a}",
      "UPDATE e.{t} SET n = n WHERE {key} = {a}",
      "UPDATE e.{t} SET n = NULL WHERE {key} = {a}",
      "UPDATE e.{t} SET n = n + 1 WHERE {in_class}",
      "UPDATE e.{t} SET n = {x} WHERE {in_class} AND n > {y}",
      "DELETE FROM e.{t} WHERE {key} = {a}",
      "DELETE FROM e.{t} WHERE {in_class} AND n > {x}",
      // A key spelled anew, or moved: to a free place, to one just vacated, along a chain, around.
      "UPDATE e.{t} SET {key} = {a2} WHERE {key} = {a}",
      "UPDATE e.{t} SET {key} = {b}, n = {x} WHERE {key} = {a}"
      " AND NOT EXISTS (SELECT FROM e.{t} WHERE {key} = {b})",
      "DELETE FROM e.{t} WHERE {key} = {b}; UPDATE e.{t} SET {key} = {b} WHERE {key} = {a}",
      "DELETE FROM e.{t} WHERE {key} = {d}; UPDATE e.{t} SET {key} = {d} WHERE {key} = {b};"
      " UPDATE e.{t} SET {key} = {b}, n = {x} WHERE {key} = {a}",
      "UPDATE e.{t} SET {key} = {spare} WHERE {key} = {a}; UPDATE e.{t} SET {key} = {a} WHERE {key}"
      " = {b}; UPDATE e.{t} SET {key} = {b} WHERE {key} = {spare}",
      "UPDATE e.{t} SET {key} = {spare} WHERE {key} = {a}; UPDATE e.{t} SET {key} = {a} WHERE {key}"
      " = {b}; UPDATE e.{t} SET {key} = {b} WHERE {key} = {d}; UPDATE e.{t} SET {key} = {d}, n = "
      "{y} WHERE {key} = {spare}",
      // One row's life in a few statements.
      "DELETE FROM e.{t} WHERE {key} = {a}; INSERT INTO e.{t} ({key}, n) VALUES ({a2}, {x})",
      "UPDATE e.{t} SET n = {x} WHERE {key} = {a}; DELETE FROM e.{t} WHERE {key} = {a}",
      "DELETE FROM e.{t} WHERE {key} = {a}; INSERT INTO e.{t} ({key}, n) VALUES ({a}, {x});"
      " UPDATE e.{t} SET n = {y} WHERE {key} = {a}; DELETE FROM e.{t} WHERE {key} = {a};"
      " INSERT INTO e.{t} ({key}, n) VALUES ({a2}, {y}); UPDATE e.{t} SET n = {x} WHERE {key} = "
      "{a}",
      "DELETE FROM e.{t} WHERE {key} IN ({a}, {b}); INSERT INTO e.{t} ({key}, n) VALUES ({a}, {x});"
      " UPDATE e.{t} SET {key} = {b} WHERE {key} = {a}; DELETE FROM e.{t} WHERE {key} = {b}",
      "DELETE FROM e.{t} WHERE {key} IN ({a}, {b}); INSERT INTO e.{t} ({key}, n) VALUES ({a}, {x});"
      " UPDATE e.{t} SET {key} = {b} WHERE {key} = {a}; INSERT INTO e.{t} ({key}, n)"
      " VALUES ({a2}, {y})",
      "DELETE FROM e.{t} WHERE {in_class}; INSERT INTO e.{t} ({key}, n) VALUES {rows}",
  };
  return patterns;
}

// Keys of two columns, one of them the partition's.
const Patterns kOfRegions{
    "INSERT INTO e.{t} (region, k, n) VALUES ('{region}', {a}, {x}) ON CONFLICT DO NOTHING",
    "INSERT INTO e.{t} (region, k, n) VALUES ('north', {a}, {x}), ('south', {b}, {y}),"
    " ('west', {d}, {x}) ON CONFLICT DO NOTHING",
    "UPDATE e.{t} SET n = {x} WHERE k = {a}",
    "UPDATE e.{t} SET n = n + 1 WHERE k % 6 = {c}",
    "DELETE FROM e.{t} WHERE k = {a}",
    "UPDATE e.{t} SET region = '{region2}' WHERE region = '{region}' AND k = {a}"
    " AND NOT EXISTS (SELECT FROM e.{t} WHERE region = '{region2}' AND k = {a})",
    "DELETE FROM e.{t} WHERE region = '{region2}' AND k = {b};"
    " UPDATE e.{t} SET region = '{region2}', k = {b} WHERE region = '{region}' AND k = {a}",
    "DELETE FROM e.{t} WHERE region = 'west' AND k % 6 = {c};"
    " UPDATE e.{t} SET region = 'west' WHERE region = 'north' AND k % 6 = {c};"
    " UPDATE e.{t} SET region = 'north' WHERE region = 'south' AND k % 6 = {c};"
    " UPDATE e.{t} SET region = 'south' WHERE region = 'west' AND k % 6 = {c}",
};

const Patterns kOfBags{
    "INSERT INTO e.{t} (a, n) SELECT {a}, {x} FROM generate_series(0, {j})",
    "UPDATE e.{t} SET n = {x} WHERE ctid = {first}",
    "UPDATE e.{t} SET a = {b} WHERE ctid = {last}",
    "UPDATE e.{t} SET n = n + 1 WHERE a = {a}",
    "UPDATE e.{t} SET n = {x} WHERE a % 6 = {c}",
    "UPDATE e.{t} SET n = NULL WHERE a = {a}",
    "DELETE FROM e.{t} WHERE ctid = {first}",
    "DELETE FROM e.{t} WHERE ctid = {last}",
    "DELETE FROM e.{t} WHERE a = {a} AND n > {x}",
};

Subject keyed(const KeyedTable& table, const Patterns& more = {}) {
  Subject subject{table.name, {}};
  for (const auto& pattern : of_keys()) subject.moves.push_back({table, pattern});
  // A table's own ways count as much as the common ones together.
  for (std::size_t i = 0; !more.empty() && i < of_keys().size(); ++i) {
    subject.moves.push_back({table, more[i % more.size()]});
  }
  return subject;
}

Subject keyless(const std::string& table, const Patterns& common, const Patterns& more = {}) {
  Subject subject{table, {}};
  for (const auto& pattern : common) subject.moves.push_back({{table}, pattern});
  for (const auto& pattern : more) subject.moves.push_back({{table}, pattern});
  return subject;
}

std::vector<Subject> second_keys() {
  return {
      keyed({"named"},
            {"UPDATE e.named SET login = NULL WHERE login = 'u{c}-{j}';"
             " UPDATE e.named SET login = 'u{c}-{j}' WHERE id = {b}",
             "DELETE FROM e.named WHERE login = 'u{c}-{j}' OR id = {a};"
             " INSERT INTO e.named (id, n, login) VALUES ({a}, {x}, 'u{c}-{j}')",
             "UPDATE e.named SET login = NULL WHERE {in_class};"
             " UPDATE e.named SET login = 'u{c}-' || (id / 6 + {x}) % 9 WHERE {in_class}",
             "UPDATE e.named SET active = false WHERE email = 'm{c}-{j}';"
             " UPDATE e.named SET email = 'm{c}-{j}', active = true WHERE id = {b}",
             "UPDATE e.named SET active = false WHERE id = {a}",
             "DELETE FROM e.named WHERE active AND {in_class} AND n > {x}"}),
      keyless("sole", {"DELETE FROM e.sole WHERE id = {a} OR (c = {c} AND tag IS NULL);"
                       " INSERT INTO e.sole VALUES ({a}, {c}, NULL)",
                       "INSERT INTO e.sole VALUES ({a}, {c}, '{s}') ON CONFLICT DO NOTHING",
                       "UPDATE e.sole SET tag = 'free ' || id WHERE c = {c} AND tag IS NULL;"
                       " UPDATE e.sole SET tag = NULL WHERE id = {b}",
                       "UPDATE e.sole SET tag = 'was ' || id WHERE c = {c} AND tag = '{s}';"
                       " UPDATE e.sole SET tag = '{s}' WHERE id = {b}",
                       "DELETE FROM e.sole WHERE id = {d}",
                       "DELETE FROM e.sole WHERE id = {b};"
                       " UPDATE e.sole SET id = {b}, tag = 'free {b}' WHERE id = {a}"}),
      keyed({"seated"},
            {"UPDATE e.seated SET seat = {c} + 6 * ((id / 6 + {x}) % 9) WHERE {in_class}",
             "UPDATE e.seated SET line = {c} + 6 * ((id / 6 + {x}) % 9) WHERE {in_class}",
             "UPDATE e.seated SET seat = {c} + 6 * {j} WHERE id = {a};"
             " UPDATE e.seated SET seat = NULL WHERE seat = {c} + 6 * {j} AND id <> {a}",
             "UPDATE e.seated SET seat = CASE id"
             " WHEN {a} THEN (SELECT seat FROM e.seated WHERE id = {b})"
             " ELSE (SELECT seat FROM e.seated WHERE id = {a}) END WHERE id IN ({a}, {b})"}),
      keyed({"booked"}, {"UPDATE e.booked SET r = NULL WHERE {in_class}; UPDATE e.booked SET r ="
                         " int4range({c} * 1000 + 10 * ((id / 6 + {x}) % 9),"
                         " {c} * 1000 + 10 * ((id / 6 + {x}) % 9) + 10) WHERE {in_class}",
                         "DELETE FROM e.booked WHERE r @> {c} * 1000 + {j} * 10 OR id = {a};"
                         " INSERT INTO e.booked VALUES ({a}, {x},"
                         " int4range({c} * 1000 + {j} * 10, {c} * 1000 + {j} * 10 + 5))",
                         "UPDATE e.booked SET r = NULL WHERE id = {a}"}),
  };
}

std::vector<Subject> wide_values() {
  const Patterns wide{
      "INSERT INTO e.{t} (id, n, big) VALUES ({a}, {x}, {wide}) ON CONFLICT (id)"
      " DO UPDATE SET big = excluded.big",
      "UPDATE e.{t} SET big = {wide} WHERE id = {a}",
      "UPDATE e.{t} SET big = big || 'x', n = {x} WHERE id = {a}",
      "UPDATE e.{t} SET big = NULL WHERE id = {a}",
      "UPDATE e.{t} SET big = {wide} WHERE id = {a}; UPDATE e.{t} SET n = {x} WHERE id = {a}",
      "DELETE FROM e.{t} WHERE id = {b}; UPDATE e.{t} SET id = {b}, n = {x} WHERE id = {a};"
      " UPDATE e.{t} SET n = {y} WHERE id = {b}",
      "DELETE FROM e.{t} WHERE id IN ({a}, {b}); INSERT INTO e.{t} (id, n, big) VALUES ({a}, {x},"
      " {wide}); UPDATE e.{t} SET n = {y} WHERE id = {a}; UPDATE e.{t} SET id = {b} WHERE id = {a}",
  };
  auto with_more = wide;
  with_more.insert(with_more.end(),
                   {"UPDATE e.wide SET packed = repeat('{s}', 2000), raw = decode(repeat(md5("
                    "'{x}'), 150), 'hex') WHERE id = {a}",
                    "UPDATE e.wide SET raw = raw || '\\x01' WHERE {in_class} AND n > {x}",
                    "UPDATE e.wide SET raw = NULL, n = {x} WHERE id = {a}",
                    "UPDATE e.wide SET raw = decode(repeat(md5('{y}'), 150), 'hex') WHERE id = {a};"
                    " UPDATE e.wide SET big = {wide} WHERE id = {a}; UPDATE e.wide SET n = {x}"
                    " WHERE id = {a}"});
  return {
      keyed({"wide"}, with_more),
      keyed({"wide_full"}, wide),
      keyless("wide_bag", kOfBags,
              {"INSERT INTO e.wide_bag SELECT {a}, {x}, {wide} FROM generate_series(0, {j})",
               "UPDATE e.wide_bag SET big = {wide} WHERE a = {a} AND n > {x}",
               "UPDATE e.wide_bag SET big = NULL WHERE a = {a} AND n > {x}"}),
  };
}

Subject family() {
  Subject family{"family", {}};
  for (const char* table : {"parent", "child", "orphan"}) {
    for (const auto& pattern : of_keys()) family.moves.push_back({{table}, pattern});
  }
  const Patterns together{
      "INSERT INTO e.child SELECT {a}, {x}, id FROM e.parent WHERE id = {b} ON CONFLICT (id)"
      " DO UPDATE SET parent = excluded.parent",
      "INSERT INTO e.orphan SELECT {a}, {x}, id FROM e.parent WHERE id = {b} ON CONFLICT (id)"
      " DO UPDATE SET parent = excluded.parent",
      "INSERT INTO e.child VALUES ({a}, {x}, {b}) ON CONFLICT (id) DO UPDATE SET parent = {b};"
      " INSERT INTO e.parent VALUES ({b}, {y}) ON CONFLICT (id) DO NOTHING",
      "DELETE FROM e.parent WHERE id = {a}; INSERT INTO e.parent VALUES ({a}, {x});"
      " INSERT INTO e.child VALUES ({b}, {y}, {a}) ON CONFLICT (id) DO UPDATE SET parent = {a}",
      "UPDATE e.parent SET id = {spare} WHERE id = {a}; UPDATE e.parent SET id = {a} WHERE id = "
      "{spare}",
      "UPDATE e.child SET parent = NULL WHERE parent = {a}; DELETE FROM e.parent WHERE id = {a}",
  };
  for (std::size_t i = 0; i < 2 * of_keys().size(); ++i) {
    family.moves.push_back({{"parent"}, together[i % together.size()]});
  }
  return family;
}

std::vector<KeyedTable> plain_keys() {
  return {{"parted"},
          {"totals"},
          {"full_keyed"},
          {"audited"},
          {"stamped"},
          {"numerics", "k", KeyKind::kNumeric},
          {"floats", "k", KeyKind::kFloat},
          {"padded", "k", KeyKind::kPadded},
          {"folded", "k", KeyKind::kFolded},
          {"coded", "k", KeyKind::kCode}};
}

std::vector<Subject> other_tables() {
  return {
      keyed({"plain"},
            {"INSERT INTO e.plain VALUES ({a}, {x}, '{s}', 'calm', ARRAY['{s}', NULL])"
             " ON CONFLICT (id) DO UPDATE SET mood = 'busy', tags = e.plain.tags || excluded.tags",
             "UPDATE e.plain SET note = '{s}' || n, mood = 'lost' WHERE {in_class}",
             "UPDATE e.plain SET tags = NULL, note = NULL WHERE id = {a}"}),
      keyed({"issued"}, {"UPDATE e.issued SET ticket = DEFAULT WHERE id = {a}",
                         "UPDATE e.issued SET ticket = DEFAULT, n = {x} WHERE {in_class}"}),
      keyed({"bulk"},
            {"INSERT INTO e.bulk SELECT {c} + 6 * i, {x}, 'bulk ' || i"
             " FROM generate_series(10, 70) AS i ON CONFLICT (id) DO NOTHING",
             "UPDATE e.bulk SET n = n + 1, note = '{s}' || n WHERE {in_class}",
             "DELETE FROM e.bulk WHERE {in_class} AND id / 6 % 4 = {j}",
             "INSERT INTO e.bulk SELECT {c} + 6 * i, i % 7, 'many' FROM generate_series(1000, 1800)"
             " AS i ON CONFLICT (id) DO NOTHING",
             "DELETE FROM e.bulk WHERE {in_class} AND id >= 6000",
             "DELETE FROM e.bulk WHERE {in_class} AND id >= 600; UPDATE e.bulk SET id = id + 600"
             " WHERE {in_class} AND id / 6 % 4 = {j}"}),
      keyless("composite", kOfRegions, {"UPDATE e.composite SET note = '{s}' WHERE k = {a}"}),
      keyless("regional", kOfRegions),
      keyless("bag", kOfBags, {"UPDATE e.bag SET b = '{s}' WHERE a = {a} AND n > {x}"}),
      keyless("loose_bag", {"INSERT INTO e.loose_bag VALUES ({a}, {decimal}, {zero}, {any_case})",
                            "INSERT INTO e.loose_bag VALUES ({a}, {decimal}, {zero}, {any_case}),"
                            " ({a}, 1, 0, NULL), ({a}, 1.0, '-0', NULL), ({a}, 1.00, 0, NULL)",
                            "UPDATE e.loose_bag SET k = {decimal} WHERE ctid ="
                            " {last}",
                            "UPDATE e.loose_bag SET f = {zero}, b = {any_case} WHERE ctid ="
                            " {first}",
                            "UPDATE e.loose_bag SET f = -f WHERE a = {a}",
                            "DELETE FROM e.loose_bag WHERE ctid ="
                            " {last}",
                            "DELETE FROM e.loose_bag WHERE a = {a} AND k::text = '1.0'"}),
  };
}

// The first subject is the one it belongs to. Events of deferred constraints must not be pending.
void add_truncations(std::vector<Subject>& subjects) {
  struct Truncation {
    std::vector<std::string> emptied;
    std::string tables;
    bool of_one_partition = false;
  };
  std::vector<Truncation> all{
      {{"plain", "composite", "wide"}, "e.plain, e.composite, e.wide"},
      {{"family"}, "e.child"},
      {{"family"}, "e.orphan"},
      {{"family"}, "e.parent CASCADE"},
      {{"family", "named"}, "e.named, e.parent CASCADE"},
      {{"parted"}, "e.parted_low, e.parted_high", true},
      {{"regional"}, "e.regional_south", true},
      {{"bag", "wide_bag"}, "e.bag, e.wide_bag"},
      {{"issued"}, "e.issued RESTART IDENTITY"},
  };
  for (const auto& subject : subjects) {
    if (subject.name != "family") all.push_back({{subject.name}, "e." + subject.name});
  }
  for (const auto& [emptied, tables, of_one_partition] : all) {
    const auto first = std::find_if(subjects.begin(), subjects.end(), [&](const Subject& subject) {
      return subject.name == emptied.front();
    });
    first->moves.push_back(
        {{"plain"},
         "SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE " + tables + "; SET CONSTRAINTS ALL DEFERRED",
         emptied,
         of_one_partition});
  }
}

}  // namespace

std::vector<Subject> make_subjects() {
  std::vector<Subject> all;
  for (auto& made : {second_keys(), wide_values(), other_tables()}) {
    all.insert(all.end(), made.begin(), made.end());
  }
  for (const auto& table : plain_keys()) all.push_back(keyed(table));
  all.push_back(family());
  add_truncations(all);
  return all;
}

std::vector<KeyedTable> keyed_tables() {
  auto all = plain_keys();
  for (const char* table : {"plain", "named", "seated", "booked", "wide", "wide_full", "issued",
                            "parent", "child", "orphan", "bulk"}) {
    all.push_back({table});
  }
  return all;
}

std::vector<std::string> populated_by_hand() {
  return {
      "UPDATE e.wide SET big = repeat(md5(id::text), 90), raw = decode(repeat(md5(id::text), 150),"
      " 'hex') WHERE id % 4 > 0",
      "UPDATE e.wide_full SET big = repeat(md5(id::text), 90) WHERE id % 4 > 0",
      "INSERT INTO e.wide_bag SELECT i / 2, i % 4, repeat(md5('same'), 90)"
      " FROM generate_series(0, 47) AS i",
      "INSERT INTO e.bag SELECT i / 3, 'same', i % 2 FROM generate_series(0, 71) AS i",
      "INSERT INTO e.loose_bag SELECT i / 3, round(1, i % 3), CASE i % 2 WHEN 0 THEN '-0' ELSE '0'"
      " END::float8, NULL FROM generate_series(0, 71) AS i",
      "INSERT INTO e.composite SELECT r, i, i FROM generate_series(0, 23) AS i,"
      " unnest(ARRAY['north', 'south']) AS r",
      "INSERT INTO e.regional SELECT r, i, i FROM generate_series(0, 23) AS i,"
      " unnest(ARRAY['north', 'west']) AS r",
      "INSERT INTO e.sole SELECT i, i % 6, NULLIF(i / 6, 0) FROM generate_series(0, 23) AS i",
      "UPDATE e.named SET login = 'u' || id % 6 || '-' || id / 6, active = n > 4,"
      " email = 'm' || id % 6 || '-' || id / 6",
      "UPDATE e.seated SET seat = id, line = id",
      "UPDATE e.child SET parent = (SELECT min(id) FROM e.parent WHERE id % 6 = child.id % 6)",
      "UPDATE e.orphan SET parent = (SELECT max(id) FROM e.parent WHERE id % 6 = orphan.id % 6)",
  };
}

}  // namespace bitacora::equivalence
