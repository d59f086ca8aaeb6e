import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { errorText } from '../../errors/error-text.js';
import type { Logger } from '../../log/logger.js';

/** Paths of PEM files. */
export interface ServerTlsFiles {
  /** The certificate, and those between it and the root. Empty: no TLS. */
  readonly cert: string;
  readonly key: string;
  /** The authorities that sign the certificates of clients. Empty: clients need no certificate. */
  readonly clientCa: string;
}

/** The contents of the files, as node:tls takes them. */
export interface ServerTlsContext {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer | undefined;
}

/** Polled, because file system events are lost on mounted secrets, which are replaced through a symbolic link. */
const INTERVAL_MS = 5_000;

/** The certificate of a listener, which may be renewed while the process runs. */
export class ServerTls {
  /** Whether a client must present a certificate that the authorities have signed. */
  readonly requiresClientCertificate: boolean;
  private readContext: ServerTlsContext;
  private timer: NodeJS.Timeout | undefined;
  private failure: string | undefined;

  /** @throws Error if a file cannot be read, or key and certificate do not match */
  constructor(
    private readonly files: ServerTlsFiles,
    private readonly logger: Logger,
    private readonly intervalMs: number = INTERVAL_MS,
  ) {
    this.requiresClientCertificate = files.clientCa !== '';
    this.readContext = read(files);
  }

  get context(): ServerTlsContext {
    return this.readContext;
  }

  /** Calls `apply` whenever the files have changed to a certificate that can be used. Connections keep theirs. */
  watch(apply: (context: ServerTlsContext) => void): void {
    this.timer = setInterval(() => {
      try {
        const found = read(this.files);
        this.failure = undefined;
        if (sameContext(found, this.readContext)) return;
        apply(found);
        this.readContext = found;
        this.logger.info('the TLS certificate has changed', { cert: this.files.cert });
      } catch (err) {
        // Also between the writes of the two files. Logged once for each cause.
        const failure = errorText(err);
        if (failure === this.failure) return;
        this.failure = failure;
        this.logger.error('the changed TLS certificate cannot be used; the previous one stays in force', { err });
      }
    }, this.intervalMs).unref();
  }

  close(): void {
    clearInterval(this.timer);
  }
}

function read({ cert, key, clientCa }: ServerTlsFiles): ServerTlsContext {
  const context = {
    cert: readFileSync(cert),
    key: readFileSync(key),
    ca: clientCa === '' ? undefined : readFileSync(clientCa),
  };
  createSecureContext(context);
  return context;
}

function sameContext(a: ServerTlsContext, b: ServerTlsContext): boolean {
  return a.cert.equals(b.cert) && a.key.equals(b.key) && (a.ca ?? a.cert).equals(b.ca ?? b.cert);
}
