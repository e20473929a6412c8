-- The version of this contract.
SELECT
    'v1' AS version,  -- the version of these views: within it columns are only added
    CAST('2026-11-27' AS {{ 'date' if pg else 'text' }}) AS released,  -- the day it was released
    CAST(NULL AS {{ 'date' if pg else 'text' }}) AS deprecated  -- the day from which a later version is to be used; null: it is current
