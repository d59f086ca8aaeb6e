import type { Figures } from './figures.js';
import type { Generators } from './load.js';
import type { Peers } from './peers.js';
import type { Plan } from './plan.js';
import type { Stage } from './stage.js';

/** Context shared by all parts of the bench. */
export interface Bench {
  readonly stage: Stage;
  readonly plan: Plan;
  readonly peers: Peers;
  readonly generators: Generators;
  readonly figures: Figures;
  readonly onLine: (line: string) => void;
}
