-- What was said, line by line. A transcript in one line is split before each ` bot:` and ` human:`.
SELECT
    turn.location_id AS location_id,  -- the account
    turn.call_id AS call_id,  -- the call
    turn.position AS position,  -- the order within the call, from 0; numbers may be left out
    CASE
        WHEN turn.named IN ('bot', 'agent', 'assistant', 'ai', 'system', 'voice_ai') THEN 'bot'
        WHEN turn.named IN ('human', 'user', 'customer', 'caller', 'contact', 'client') THEN 'human'
    END AS speaker,  -- bot: the agent; human: the other side; null: the line names nobody, so most likely the one before goes on
    CASE
        WHEN turn.named IN ('bot', 'agent', 'assistant', 'ai', 'system', 'voice_ai', 'human', 'user', 'customer', 'caller', 'contact', 'client')
        THEN trim(substr(turn.line, {{ 'strpos' if pg else 'instr' }}(turn.line, ':') + 1)) ELSE turn.line
    END AS text  -- [words] what was said, without the speaker
FROM (
    SELECT
        c.location_id, c.call_id,
{%- set n = 'chr(10)' if pg else 'char(10)' %}
{%- set r = 'chr(13)' if pg else 'char(13)' %}
{%- set whole = "replace(c.transcript, " ~ r ~ ", '')" %}
{%- set lines = "CASE WHEN " ~ ('strpos' if pg else 'instr') ~ "(c.transcript, " ~ n ~ ") > 0 THEN " ~ whole ~ " ELSE replace(replace(" ~ whole ~ ", ' human:', " ~ n ~ " || 'human:'), ' bot:', " ~ n ~ " || 'bot:') END" %}
{%- if pg %}
        CAST(part.number - 1 AS integer) AS position, trim(part.line) AS line,
        lower(trim(split_part(part.line, ':', 1))) AS named
    FROM calls c CROSS JOIN LATERAL regexp_split_to_table({{ lines }}, chr(10)) WITH ORDINALITY AS part (line, number)
{%- else %}
        CAST(part.key AS integer) AS position, trim(replace(part.value, char(64976), '\')) AS line,
        lower(trim(substr(part.value, 1, instr(part.value, ':') - 1))) AS named
    -- Backslashes stand aside while the lines are made a JSON array: they would look like escapes.
    FROM calls c, json_each('[' || replace(json_quote(replace({{ lines }}, '\', char(64976))), '\n', '","') || ']') AS part
{%- endif %}
    WHERE c.transcript IS NOT NULL AND {{ seen('c.location_id') }}
) turn
WHERE turn.line <> ''
