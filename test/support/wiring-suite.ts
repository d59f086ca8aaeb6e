import assert from 'node:assert/strict';
import { join } from 'node:path';
import { LiveConfig } from '../../internal/conf/live.js';
import { App } from '../../internal/kratos/app/app.js';
import type { ProcessContext } from '../../internal/kratos/app/process.js';
import { Resources } from '../../internal/kratos/app/resources.js';
import { type ProviderSet, wiringErrors } from '../../internal/kratos/app/wiring.js';
import { Worker } from '../../internal/kratos/app/worker.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { projectRoot } from '../../internal/local/project.js';
import { contextModule } from '../../internal/server/shared-module.js';
import { containerOf, replaced } from './wiring.js';

export interface WiredProcess {
  readonly name: string;
  readonly modules: readonly ProviderSet[];
  /** Replacements of providers that open a connection when they are created. */
  readonly unconnected: ProviderSet;
}

/** Tests the object graph of a process without any server. */
export function describeWiring({ name, modules, unconnected }: WiredProcess): void {
  const context = (): ProcessContext<LiveConfig> => {
    const live = new LiveConfig(join(projectRoot, `configs/${name}.yaml`));
    const resources = new Resources();
    return { config: live.current, live, logger: new SilentLogger(), worker: new Worker(name, 0, 1), resources };
  };

  describe(`wiring of ${name}`, () => {
    it('provides every dependency once and nothing that no other provider needs', () => {
      assert.deepEqual(wiringErrors([contextModule(context()), ...modules], App), []);
    });

    it('makes the app with the default configuration and closes what it made', async () => {
      const given = context();
      const container = containerOf([contextModule(given), ...replaced(modules, unconnected)]);
      assert.ok((await container.getAsync(App)) instanceof App);
      await given.resources.close();
    });
  });
}
