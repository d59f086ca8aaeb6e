import { providers } from '../../internal/kratos/app/wiring.js';
import { describeWiring } from '../../test/support/wiring-suite.js';
import { resourceModules } from './wire.js';

// Its connections open when the app starts or at their first use.
describeWiring({ name: 'resource', modules: resourceModules, unconnected: providers(() => {}) });
