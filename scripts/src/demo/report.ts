import type { Step } from './steps.ts';

/** What the demo shows at its end; filled step by step. */
export interface DemoReport {
  kms?: { url: string; k256_pubkey: string };
  app?: {
    app_id: string;
    compose_hash: string;
    instance_id: string;
    url: string;
    agent_url: string;
    address: string;
  };
  second?: { app_id: string; url: string; address: string };
  denied: { when: 'unregistered' | 'revoked'; error: string }[];
  verify?: { is_valid: boolean; simulated: boolean; [key: string]: unknown };
  /** Address of the governance page. */
  console?: string;
  /** What its virtual machines boot; undefined when it has none. */
  osImage?: string | undefined;
  /** How to go on by hand. */
  config?: string;
  binDirectory?: string;
}

/** The document of `--json`. */
export function jsonReport(steps: readonly Step[], report: DemoReport, totalMs: number): object {
  return {
    simulated: true,
    steps,
    kms: report.kms ?? null,
    app: report.app ?? null,
    second_app: report.second ?? null,
    denied: report.denied,
    verify: report.verify ?? null,
    console: report.console ?? null,
    config: report.config ?? null,
    total_ms: totalMs,
  };
}
