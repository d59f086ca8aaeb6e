import { LiveConfig } from '../../internal/conf/live.js';
import { processSettings } from '../../internal/conf/process.js';
import { runProcess } from '../../internal/kratos/app/process.js';

process.exitCode = await runProcess({
  name: 'resource',
  argv: process.argv.slice(2),
  openConfig: (path: string) => new LiveConfig(path),
  settingsOf: processSettings,
  wire: async (context) => (await import('./wire.js')).wire(context),
});
