/** What `npm run demo -- --once --json` prints. */
import { expect } from 'vitest';

export type DemoJson = {
  simulated: boolean;
  steps: Array<{ name: string; ok: boolean; ms: number; detail: string }>;
  kms: { url: string; k256_pubkey: string };
  app: { app_id: string; compose_hash: string; instance_id: string; url: string; address: string };
  denied: Array<{ when: string; error: string }>;
  verify: { is_valid: boolean; simulated: boolean };
  total_ms: number;
};

export const DEMO: readonly string[] = ['npm', 'run', '--silent', 'demo', '--', '--once', '--json'];

/** Every step went well, and both refusals were for the right reason. */
export function expectComplete(json: DemoJson): void {
  expect(json.simulated).toBe(true);
  expect(json.steps.filter(({ ok }) => !ok)).toEqual([]);
  expect(json.steps.length).toBeGreaterThan(10);
  expect(json.denied.map(({ when }) => when)).toEqual(['unregistered', 'revoked']);
  for (const { error } of json.denied) expect(error).toContain('Boot denied: Compose hash not allowed');
  expect(json.verify).toMatchObject({ is_valid: true, simulated: true });
  expect(json.app.address).toMatch(/^0x[0-9a-fA-F]{40}$/);
  expect(json.kms.k256_pubkey).toMatch(/^[0-9a-f]{66}$/);
}
