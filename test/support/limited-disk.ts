import { execFileSync } from 'node:child_process';
import { statfsSync } from 'node:fs';

export interface OwnServerOptions {
  /** Whether its data lie on a file system that can become full. */
  readonly limitedDisk?: boolean;
}

/** Far more than a server of the tests writes. It is in memory, and takes only what is written. */
const ROOM = '2g';
/** Servers write meanwhile: then there is less room than was seen, and the limit is refused. */
const ATTEMPTS = 100;

/** A file system for one server's data that can become full, because its limit is lowered to what is in use. */
export class LimitedDisk {
  private constructor(private readonly directory: string) {}

  /** @returns undefined where mounting is not permitted, as without root and in most containers */
  static mount(directory: string): LimitedDisk | undefined {
    try {
      mount('-t', 'tmpfs', '-o', `size=${ROOM},mode=0711`, 'tmpfs', directory);
    } catch {
      return undefined;
    }
    return new LimitedDisk(directory);
  }

  /** No further block can be written until `free`. */
  fill(): void {
    for (let attempt = 1; ; attempt++) {
      const { blocks, bfree, bsize } = statfsSync(this.directory);
      try {
        mount('-o', `remount,size=${(blocks - bfree) * bsize}`, this.directory);
        return;
      } catch (err) {
        if (attempt === ATTEMPTS) throw err;
      }
    }
  }

  free(): void {
    mount('-o', `remount,size=${ROOM}`, this.directory);
  }

  unmount(): void {
    execFileSync('umount', ['--lazy', this.directory], { stdio: 'ignore' });
  }
}

function mount(...args: string[]): void {
  execFileSync('mount', args, { stdio: 'ignore' });
}
