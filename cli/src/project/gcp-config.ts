import { table } from '@dstack-cloud/app';
import { z } from 'zod';
import { unknownKeys } from '../config/unknown-keys.ts';
import { CliError } from '../errors.ts';

const text = z.string().optional();
const names = z.array(z.string().min(1)).max(64).optional();
const gigabytes = z.int().min(1).max(65_536).optional();

/** Members of `gcp_config`: those of the original, those of its newer releases, and ours. */
const schema = z.looseObject({
  project: text,
  zone: text,
  instance_name: text,
  machine_type: text,
  boot_image: text,
  boot_image_tar: text,
  data_image: text,
  data_size: gigabytes,
  bucket: text,
  network: text,
  subnet: text,
  service_account: text,
  scopes: names,
  tags: names,
  labels: table(z.string()).optional(),
  private_ip: text,
  no_public_ip: z.boolean().optional(),
  provisioning_model: z.enum(['STANDARD', 'SPOT']).optional(),
  boot_disk_size: gigabytes,
  disk_type: text,
  external_ip: text,
  keep_data: z.boolean().optional(),
  nic_type: text,
});
const KNOWN = { '': Object.keys(schema.shape) };

/**
 * Checks `gcp_config`, so that a mistyped name is found before anything is made in a project. `_comment…` members are
 * comments.
 * @param path of app.json
 * @throws CliError `bad_app_json` naming the member
 */
export function checkGcpConfig(value: Readonly<Record<string, unknown>>, path: string): void {
  const fail = (problem: string): never => {
    throw new CliError('bad_app_json', `${path}: ${problem}`, { hint: `Correct gcp_config in ${path}` });
  };
  const [unknown] = unknownKeys(value, KNOWN);
  if (unknown !== undefined) fail(`gcp_config: ${unknown}`);
  const [issue] = schema.safeParse(value).error?.issues ?? [];
  if (issue !== undefined) fail(`${['gcp_config', ...issue.path].join('.')}: ${issue.message}`);
}
