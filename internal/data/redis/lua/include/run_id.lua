-- Names the server that runs the script: another one after a restart and on every replica.
local function run_id() return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') end
