import { create } from '@bufbuild/protobuf';
import { type AppInfo, AppInfoSchema } from '@dstack-cloud/prpc';
import type { Agent } from './agent.ts';
import { machineIdentity } from './machine.ts';

/** Info as the caller may see it: outsiders get tcb_info and vm_config only when the application says so. */
export async function info(agent: Agent, audience: 'inside' | 'outside'): Promise<AppInfo> {
  const facts = await agent.local.facts();
  const { appInfo } = facts;
  const full = audience === 'inside' || agent.compose.publicTcbinfo;
  const machine = machineIdentity(agent.config.root);
  return create(AppInfoSchema, {
    appId: appInfo.appId,
    instanceId: appInfo.instanceId,
    appCert: agent.demoCertificate.current(),
    tcbInfo: full ? facts.tcbInfo : '',
    appName: agent.compose.name,
    deviceId: appInfo.deviceId,
    mrAggregated: appInfo.mrAggregated,
    osImageHash: appInfo.osImageHash,
    keyProviderInfo: facts.keyProviderInfo,
    composeHash: appInfo.composeHash,
    vmConfig: full ? agent.vmConfig : '',
    cloudVendor: machine.vendor,
    cloudProduct: machine.product,
  });
}
