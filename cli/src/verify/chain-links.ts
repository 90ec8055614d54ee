import { fromHex, padRight, toHex } from '@dstack-cloud/encoding';
import type { AppInfoJson, Report } from '@dstack-cloud/verifier';
import type { Hex } from 'viem';
import { connectReader, kmsAbi, type Reader, shortMessage } from '../chain/connect.ts';
import { readKmsIdentity } from '../chain/read-kms-root.ts';
import type { GlobalConfig } from '../config/global-config.ts';
import { messageOf } from '../errors.ts';
import type { Link } from './link.ts';

/** Key service and policy, as the chain sees them. */
export async function chainLinks(config: GlobalConfig['chain'], report: Report): Promise<Link[]> {
  const { appInfo } = report;
  if (appInfo === undefined) return [];
  if (config === undefined)
    return ['Key service', 'Policy'].map((name) => ({
      name,
      ok: null,
      why: 'The configuration names no chain',
    }));
  try {
    const reader = await connectReader(config);
    return [await keyService(reader, appInfo), await policy(reader, appInfo, report)];
  } catch (error) {
    return [{ name: 'Policy', ok: false, why: messageOf(error) }];
  }
}

/** The keys came from the KMS whose CA the contract names: the measured key-provider event says which. */
async function keyService(reader: Reader, info: AppInfoJson): Promise<Link> {
  const name = 'Key service';
  const provider = keyProvider(info.key_provider_info);
  if (provider.name !== 'kms')
    return { name, ok: null, why: `Keys come from ${provider.name || 'nowhere'}, not from a KMS` };
  const { ca } = await readKmsIdentity(reader);
  if (provider.id === ca)
    return { name, ok: true, why: `The KMS registered in ${reader.kms} released the keys` };
  return {
    name,
    ok: false,
    why: 'The keys come from a KMS that the contract does not name',
    expected: ca,
    found: provider.id,
  };
}

async function policy(reader: Reader, info: AppInfoJson, { tcbStatus, advisoryIds }: Report): Promise<Link> {
  const name = 'Policy';
  const hex = (value: string, length: number): Hex => `0x${toHex(padRight(fromHex(value), length))}`;
  const bootInfo = {
    appId: hex(info.app_id, 20),
    composeHash: hex(info.compose_hash, 32),
    instanceId: hex(info.instance_id, 20),
    deviceId: hex(info.device_id, 32),
    mrAggregated: hex(info.mr_aggregated, 32),
    mrSystem: hex(info.mr_system, 32),
    osImageHash: hex(info.os_image_hash, 32),
    tcbStatus: tcbStatus ?? '',
    advisoryIds,
  };
  try {
    const [allowed, reason] = (await reader.client.readContract({
      address: reader.kms,
      abi: kmsAbi,
      functionName: 'isAppAllowed',
      args: [bootInfo],
    })) as readonly [boolean, string];
    return allowed
      ? { name, ok: true, why: `The contract ${reader.kms} on chain ${reader.chain.id} allows this app` }
      : { name, ok: false, why: `The contract ${reader.kms} refuses: ${reason}` };
  } catch (error) {
    return { name, ok: false, why: `The contract cannot be asked: ${shortMessage(error)}` };
  }
}

function keyProvider(info: string): { name: string; id: string } {
  try {
    const { name, id } = JSON.parse(new TextDecoder().decode(fromHex(info))) as {
      name?: unknown;
      id?: unknown;
    };
    return { name: String(name ?? ''), id: String(id ?? '').toLowerCase() };
  } catch {
    return { name: '', id: '' };
  }
}
