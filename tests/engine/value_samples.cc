#include "tests/engine/value_samples.h"

namespace bitacora::harness {
namespace {

std::vector<ValueSamples> numbers() {
  return {
      {"bool", {"t", "f"}},
      {"int2", {"0", "1", "-1", "32767", "-32768"}},
      {"int4", {"0", "1", "-1", "2147483647", "-2147483648"}},
      {"int8", {"0", "1", "-1", "9223372036854775807", "-9223372036854775808"}},
      {"oid", {"0", "1", "2147483648", "4294967295"}},
      {"float4",
       {"0", "-0", "1.5", "3.4028235e38", "-3.4028235e38", "1e-45", "1.1754944e-38", "NaN",
        "Infinity", "-Infinity", "0.1"}},
      {"float8",
       {"0", "-0", "0.1", "1.7976931348623157e308", "-1.7976931348623157e308",
        "2.2250738585072014e-308", "5e-324", "NaN", "Infinity", "-Infinity",
        "0.30000000000000004"}},
      {"numeric",
       {"0", "0.00", "-0.0", "1", "1.0", "1.00", "-1.50", "NaN", "Infinity", "-Infinity", "1e-40",
        "1e100", "9999", "10000", "0.0001", "12345678901234567890.123456789012345678901234567890",
        "-99999999999999999999999999999999999999"},
       {"('1' || repeat('0', 131000))::numeric", "('0.' || repeat('0', 16000) || '7')::numeric"}},
      {"money", {"0", "0.01", "-0.01", "92233720368547758.07", "-92233720368547758.08"}},
      {"xid", {"0", "3", "4294967295"}},
      {"xid8", {"0", "4294967296", "18446744073709551615"}},
      {"cid", {"0", "7", "4294967295"}},
      {"tid", {"(0,0)", "(0,1)", "(4294967295,65535)"}},
      {"pg_lsn", {"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"}},
      {"txid_snapshot", {"10:20:10,14,15", "1:1:", "9223372036854775806:9223372036854775807:"}},
      {"pg_snapshot", {"10:20:10,14,15", "1:1:", "795:799:795,797"}},
      // The fifth value is the only one not put into arrays, where a server refuses an empty vector
      // (or tsquery) in binary.
      {"int2vector", {"0", "1", "1 2 3", "-32768 32767", ""}},
      {"oidvector", {"0", "1", "1 2 4294967295", "7", ""}},
  };
}

std::vector<ValueSamples> texts() {
  const std::string odd = "tab\there\nnewline\r\\backslash'quote\"double{}()[],;";
  return {
      {"text",
       {"", " ", "NULL", "null", "ñandú", "🦤", "e\xCC\x81", "日本語", odd, "\\x00", "\\N", "{}",
        "\x01\x02\x7F", "\xEF\xBB\xBF", "\xF4\x8F\xBF\xBF", "a  ", "  a"},
       {"repeat('0123456789', 10000)", "repeat('🦤', 3000)",
        "(SELECT string_agg(chr(i), '') FROM generate_series(1, 2047) i)"}},
      {"varchar", {"", " ", "ñandú", "a   ", odd}},
      {"bpchar", {"", " ", "a", "a   ", "🦤", odd}},
      {"char", {"", "a", "\\377", "\\200", " ", "\\"}},
      {"name",
       {"", "a", "Upper \"quoted\"",
        "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz01234567890"}},
      {"refcursor", {"", "cursor", odd}},
      {"bytea",
       {"\\x", "\\x00", "\\xff", "\\x5c", "\\x27", "\\x0a0d00", "\\xdeadbeef"},
       {"(SELECT string_agg(set_byte('\\x00', 0, i), '' ORDER BY i) FROM generate_series(0, 255) "
        "i)",
        "decode(repeat('00', 100000), 'hex')"}},
      {"bit", {"0", "1"}},
      {"varbit", {"", "0", "1", "00000000", "11111111", "101010101", "0000000000000001"}},
      {"uuid",
       {"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}},
      {"aclitem", {"postgres=r/postgres", "=arwdDxt/postgres", "postgres=r*w*/postgres"}},
  };
}

std::vector<ValueSamples> documents() {
  return {
      {"json",
       {"null", "true", "0", "-0.0", "1e400", "\"\"", R"("\u0000")", R"("\\u0000")",
        R"("\ud83e\udda4")", R"({"a":1,"a":2})", R"({ "b" : [ ] , "a" : { } })", "[[[[[]]]]]",
        R"("\"\\\/\b\f\n\r\t")", "1.000", R"({"":null})", " [1 , 2]\n"},
       {"to_json(repeat('x', 100000))"}},
      {"jsonb",
       {"null", "true", "0", "-0.0", "1e400", "\"\"", R"("\\u0000")", R"("\ud83e\udda4")",
        R"({"a":1,"a":2})", R"({"b":[],"a":{}})", "[[[[[]]]]]", R"("\"\\\/\b\f\n\r\t")", "1.000",
        R"({"":null})", R"({"key with \" quote":{"deep":[1,{"x":false}]}})"},
       {"to_jsonb(repeat('x', 100000))",
        "(SELECT jsonb_object_agg(i, i) FROM generate_series(1, 3000) i)"}},
      {"jsonpath",
       {"$", "strict $.a[*] ? (@ > 1)", "$.\"key\"[last]", "$.a.type()",
        "$ ? (@ like_regex \"^a\" flag \"i\")", "$.** {2 to last}"}},
      {"xml",
       {"", "text", "<a/>", "<a>ñ🦤</a>", "<a b=\"&quot;\">&lt;&amp;</a>",
        "<a><![CDATA[<x>]]></a>", "<?xml version=\"1.0\"?><a/>", "<!-- c --><a/><b/>",
        "<a>\n  <b/>\n</a>"}},
      {"tsvector",
       {"", "a", "'a':1A,2B 'b':3C", "'it''s':1", "'with space':16383", "ñandú", "a:1,2,3,4,5",
        "'\\\\'"},
       {"(SELECT string_agg('w' || i || ':' || i, ' ')::tsvector FROM generate_series(1, 999) i)"}},
      {"tsquery",
       {"a", "a & b", "a | !b", "a <-> b", "", "a <3> b", "'it''s':*AB", "!(a & b) | c",
        "'with space'"}},
  };
}

std::vector<ValueSamples> times() {
  return {
      {"date",
       {"2000-01-01", "1970-01-01", "0001-01-01", "0001-12-31 BC", "4714-11-24 BC", "5874897-12-31",
        "infinity", "-infinity", "2024-02-29"}},
      {"time", {"00:00", "24:00", "23:59:59.999999", "00:00:00.000001", "12:34:56"}},
      {"timetz",
       {"00:00+00", "24:00-15:59:59", "23:59:59.999999+15:59:59", "12:00+05:45", "12:00-03:30"}},
      {"timestamp",
       {"2000-01-01", "1999-12-31 23:59:59.999999", "4714-11-24 00:00:00 BC",
        "294276-12-31 23:59:59.999999", "0001-01-01 00:00 BC", "infinity", "-infinity",
        "2016-12-31 23:59:60"}},
      {"timestamptz",
       {"2000-01-01 00:00+00", "1999-12-31 23:59:59.999999+14", "4714-11-24 00:00:00+00 BC",
        "294276-12-31 23:59:59.999999+00", "infinity", "-infinity",
        "2024-03-31 02:30 Europe/Madrid"}},
      {"interval",
       {"0", "1 mon", "30 days", "720:00:00", "-1 mon +2 days -00:00:01", "178000000 years",
        "-178000000 years", "2147483647 days", "-2147483648 days",
        "1 year 2 mons 3 days 04:05:06.7", "00:00:00.000001", "2562047788:00:54.775807",
        "-2562047788:00:54.775807"}},
  };
}

std::vector<ValueSamples> places() {
  return {
      {"point", {"(0,0)", "(-0,1e300)", "(NaN,Infinity)", "(-Infinity,5e-324)"}},
      {"lseg", {"[(0,0),(1,1)]", "[(1,1),(1,1)]", "[(-1e10,0.1),(1,NaN)]"}},
      {"line", {"{1,2,3}", "{-1,0,0}", "{0,1,1e300}"}},
      {"box", {"(1,1),(0,0)", "(0,0),(0,0)", "(Infinity,Infinity),(-Infinity,-Infinity)"}},
      {"path", {"[(0,0)]", "((0,0),(1,1))", "[(0,0),(1,1),(2,0)]"}},
      {"polygon", {"((0,0))", "((0,0),(1,1),(2,0))", "((-1,-1),(1,-1),(1,1),(-1,1))"}},
      {"circle", {"<(0,0),0>", "<(1.5,-2),3>", "<(0,0),Infinity>"}},
      {"inet",
       {"0.0.0.0", "255.255.255.255", "10.1.2.3/8", "127.0.0.1/0", "::", "::1/128", "fe80::1/10",
        "::ffff:1.2.3.4", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}},
      {"cidr", {"0.0.0.0/0", "10.0.0.0/8", "192.168.1.1/32", "::/0", "2001:db8::/32"}},
      {"macaddr", {"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "08:00:2b:01:02:03"}},
      {"macaddr8", {"00:00:00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff:ff:ff", "08:00:2b:01:02:03"}},
  };
}

std::vector<ValueSamples> ranges() {
  return {
      {"int4range", {"empty", "(,)", "[1,1]", "[-2147483648,2147483647)", "(,5]", "[3,)"}},
      {"int8range", {"empty", "(,)", "[1,9223372036854775807)", "[-9223372036854775808,)"}},
      {"numrange", {"empty", "(,)", "[1.0,1.00]", "(1,2)", "[-Infinity,Infinity]", "(0.1,NaN)"}},
      {"daterange",
       {"empty", "(,)", "[2000-01-01,infinity)", "[-infinity,infinity]",
        "[0044-03-15 BC,2000-01-01)"}},
      {"tsrange", {"empty", "(,)", "[2000-01-01,2000-01-01]", "(-infinity,infinity)"}},
      {"tstzrange", {"empty", "(,)", "[2000-01-01 00:00+00,2000-01-02 00:00+05)", "[infinity,)"}},
      {"int4multirange", {"{}", "{(,)}", "{[1,3),[5,7)}", "{(,1),[9,)}"}},
      {"int8multirange", {"{}", "{(,)}", "{[1,3),[5,7)}", "{[9223372036854775806,)}"}},
      {"nummultirange", {"{}", "{(,)}", "{[1.0,1.50],(2,3)}", "{[NaN,NaN]}"}},
      {"datemultirange", {"{}", "{(,)}", "{[2000-01-01,2000-01-02),[2001-01-01,infinity)}"}},
      {"tsmultirange", {"{}", "{(,)}", "{[2000-01-01,2000-01-02),(2001-01-01,infinity)}"}},
      {"tstzmultirange", {"{}", "{(,)}", "{[2000-01-01 00:00+00,2000-01-02 00:00+00)}"}},
  };
}

// Built-in objects: their OIDs are the same everywhere.
std::vector<ValueSamples> object_names() {
  return {
      {"regproc", {"-", "pg_catalog.now", "987654321"}},
      {"regprocedure", {"-", "pg_catalog.abs(integer)", "987654321"}},
      {"regoper", {"0", "pg_catalog.||/", "987654321"}},
      {"regoperator", {"0", "pg_catalog.+(integer,integer)", "987654321"}},
      {"regclass", {"-", "pg_catalog.pg_class", "987654321"}},
      {"regcollation", {"-", "\"C\"", "987654321"}},
      {"regtype", {"-", "integer", "text[]", "987654321"}},
      {"regrole", {"-", "postgres", "987654321"}},
      {"regnamespace", {"-", "pg_catalog", "987654321"}},
      {"regconfig", {"-", "pg_catalog.english", "987654321"}},
      {"regdictionary", {"-", "pg_catalog.simple", "987654321"}},
      {"regdatabase", {"-", "template1", "987654321"}},
  };
}

}  // namespace

const std::vector<ValueSamples>& value_samples() {
  static const auto all = [] {
    std::vector<ValueSamples> samples;
    for (auto part :
         {numbers(), texts(), documents(), times(), places(), ranges(), object_names()}) {
      samples.insert(samples.end(), part.begin(), part.end());
    }
    return samples;
  }();
  return all;
}

}  // namespace bitacora::harness
