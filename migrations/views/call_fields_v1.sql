-- The data that the agent extracted from a call, one row for each field.
SELECT
    f.location_id AS location_id,  -- the account
    f.call_id AS call_id,  -- the call
    f.field AS field,  -- the name of the field
    f.json_type AS json_type,  -- string, number, boolean, null, object or array
    NULLIF(f.text, '') AS text,  -- [words] the value as text, an empty one is null; objects and arrays as JSON, spaced as the database does
    f.number AS number,  -- [words] the value of a JSON number
    f.boolean AS boolean  -- [words] the value of a JSON boolean
FROM (
{%- if pg %}
    SELECT
        c.location_id, c.call_id, each.key AS field, jsonb_typeof(each.value) AS json_type,
        each.value #>> '{}' AS text,
        CASE WHEN jsonb_typeof(each.value) = 'number' THEN CAST(each.value #>> '{}' AS double precision) END AS number,
        CASE WHEN jsonb_typeof(each.value) = 'boolean' THEN CAST(each.value #>> '{}' AS boolean) END AS boolean
    FROM calls c CROSS JOIN LATERAL jsonb_each(CASE WHEN jsonb_typeof(c.extracted_data) = 'object' THEN c.extracted_data END) AS each
    WHERE c.extracted_data IS NOT NULL AND {{ seen('c.location_id') }}
{%- else %}
    SELECT
        c.location_id, c.call_id, field.key AS field,
        CASE field.type
            WHEN 'text' THEN 'string' WHEN 'integer' THEN 'number' WHEN 'real' THEN 'number' WHEN 'true' THEN 'boolean'
            WHEN 'false' THEN 'boolean' ELSE field.type
        END AS json_type,
        CASE field.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(field.value AS text) END AS text,
        CASE WHEN field.type IN ('integer', 'real') THEN CAST(field.value AS real) END AS number,
        CASE WHEN field.type IN ('true', 'false') THEN field.type = 'true' END AS boolean
    FROM calls c, json_each(c.extracted_data) AS field
    WHERE json_type(c.extracted_data) = 'object'
{%- endif %}
) f
