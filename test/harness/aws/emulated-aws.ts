/**
 * AWS on loopback: moto's server, and before it what moto lacks, which is checked against AWS's own model. That is commands by SSM
 * on an emulated instance, its console, tokens that keep a launch from happening twice, and whether an instance has enclaves.
 */
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ssm from '@aws-sdk/client-ssm';
import { checkShape } from './check-shape.ts';
import { EmulatedHost } from './emulated-host.ts';
import { type Moto, startMoto } from './moto.ts';

const MAX_BODY = 64 * 1024 * 1024;

/** One request of the command line. */
interface Call {
  readonly number: number;
  /** `RunInstances`, `PUT /bucket/key`. */
  readonly name: string;
  readonly parameters: URLSearchParams;
}

/** Silence, before or after a request was done, to it and to all later ones of its client, as if that had been killed. */
type Fault = 'silence' | 'silence-after' | { readonly status: number; readonly code: string };

export interface EmulatedAws {
  readonly moto: Moto;
  readonly calls: readonly Call[];
  /** What was asked for against AWS's model; a test expects none. */
  readonly schemaErrors: readonly string[];
  readonly hosts: ReadonlyMap<string, EmulatedHost>;
  /** Variables by which the SDK finds it, for a client of its own. */
  env(): Record<string, string>;
  fault: ((call: Call) => Fault | undefined) | undefined;
  onSilence: (() => void) | undefined;
  /** Of instances that are launched from now on. */
  hasEnclaves: boolean;
  /** What instances have printed on their console. */
  console: string;
  /** Folder with the root of each host. */
  readonly folder: string;
  forgetCalls(): void;
  reset(): Promise<void>;
  close(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Buffer;
}

interface Invocation {
  readonly instance: string;
  done: { readonly code: number; readonly stdout: string; readonly stderr: string } | undefined;
}

export async function startAws(): Promise<EmulatedAws> {
  const moto = await startMoto();
  const folder = mkdtempSync(join(tmpdir(), 'aws-'));
  const calls: Call[] = [];
  const schemaErrors: string[] = [];
  const hosts = new Map<string, EmulatedHost>();
  const launches = new Map<string, Answer>();
  const invocations = new Map<string, Invocation>();
  const silenced = new Set<string>();
  let clients = 0;
  let number = 0;

  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (!response.destroyed) response.writeHead(500).end(String(error));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const aws: EmulatedAws = {
    ...{ moto, calls, schemaErrors, hosts },
    env: () => ({
      AWS_ENDPOINT_URL: origin,
      AWS_REGION: 'us-east-1',
      AWS_ACCESS_KEY_ID: `CLIENT${++clients}`,
      AWS_SECRET_ACCESS_KEY: 'secret',
      AWS_EC2_METADATA_DISABLED: 'true',
    }),
    fault: undefined,
    onSilence: undefined,
    hasEnclaves: true,
    console: '',
    folder,
    forgetCalls: () => {
      calls.length = 0;
      number = 0;
    },
    reset: async () => {
      for (const host of hosts.values()) host.powerOff();
      hosts.clear();
      launches.clear();
      await moto.reset();
    },
    close: async () => {
      for (const host of hosts.values()) host.powerOff();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      await moto.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A link is followed by a host, which lives on when who made the link is killed.
    if (request.url?.includes('X-Amz-Signature=') === true)
      return send(response, await forward(request, await read(request)));
    const client = /Credential=(CLIENT\d+)/.exec(request.headers.authorization ?? '')?.[1] ?? '';
    if (silenced.has(client)) return;
    const body = await read(request);
    const isForm = request.headers['content-type']?.startsWith('application/x-www-form-urlencoded') === true;
    const parameters = new URLSearchParams(isForm ? body.toString() : '');
    const target = request.headers['x-amz-target'];
    const path = request.url?.split('?')[0] ?? '/';
    const name =
      parameters.get('Action') ??
      (typeof target === 'string' ? target.split('.')[1] : undefined) ??
      `${request.method} ${path}`;
    const call = { number: ++number, name, parameters };
    calls.push(call);
    const fault = aws.fault?.(call);
    if (fault === 'silence') return silence(client);
    if (typeof fault === 'object') return send(response, refusal(fault));
    const answer = await answerTo(request, call, body);
    if (fault === 'silence-after') return silence(client);
    send(response, answer);
  }

  function silence(client: string): void {
    silenced.add(client);
    aws.onSilence?.();
  }

  async function answerTo(request: IncomingMessage, call: Call, body: Buffer): Promise<Answer> {
    const { name, parameters } = call;
    if (name in FAKES) return await fake(name as keyof typeof FAKES, body);
    if (name === 'GetConsoleOutput') return consoleOutput(parameters.get('InstanceId') ?? '');
    if (name === 'RunInstances') {
      const token = parameters.get('ClientToken');
      if (token === null) schemaErrors.push('RunInstances without a ClientToken');
      if (parameters.get('EnclaveOptions.Enabled') !== 'true')
        schemaErrors.push('RunInstances without enclaves');
      const known = launches.get(token ?? '');
      if (known !== undefined) return known;
      const answer = await forward(request, body);
      const id = /<instanceId>(i-[0-9a-f]+)</.exec(answer.body.toString())?.[1];
      if (id !== undefined) {
        launches.set(token ?? '', answer);
        const root = join(folder, id);
        mkdirSync(root);
        hosts.set(id, new EmulatedHost(root, { hasEnclaves: aws.hasEnclaves }));
      }
      return answer;
    }
    if (name === 'TerminateInstances' || name === 'StopInstances')
      hosts.get(parameters.get('InstanceId.1') ?? '')?.powerOff();
    return await forward(request, body);
  }

  /** moto prints the same text for every instance. */
  function consoleOutput(id: string): Answer {
    const output = Buffer.from(aws.console, 'latin1').toString('base64');
    const body = `<GetConsoleOutputResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>${randomUUID()}</requestId><instanceId>${id}</instanceId><timestamp>${new Date().toISOString()}</timestamp><output>${output}</output></GetConsoleOutputResponse>`;
    return { status: 200, headers: { 'content-type': 'text/xml' }, body: Buffer.from(body) };
  }

  /** Commands by SSM. */
  async function fake(name: keyof typeof FAKES, body: Buffer): Promise<Answer> {
    const [input, output] = FAKES[name];
    const asked = JSON.parse(body.toString()) as Asked;
    check(input, asked, name);
    const answer =
      name === 'DescribeInstanceInformation'
        ? await online(asked)
        : name === 'SendCommand'
          ? sendCommand(asked)
          : invocation(asked);
    if (answer === undefined)
      return json(400, { __type: 'InvocationDoesNotExist', message: 'There is no such invocation (yet)' });
    check(output, answer, `answer of ${name}`);
    return json(200, answer);
  }

  function check(schema: Parameters<typeof checkShape>[0], value: unknown, where: string): void {
    try {
      checkShape(schema, value, where);
    } catch (error) {
      schemaErrors.push(String(error));
    }
  }

  async function online(asked: Asked): Promise<object> {
    const ids = asked.Filters?.find(({ Key }) => Key === 'InstanceIds')?.Values ?? [];
    const there = ids.filter((id) => hosts.has(id));
    return { InstanceInformationList: there.map((InstanceId) => ({ InstanceId, PingStatus: 'Online' })) };
  }

  function sendCommand(asked: Asked): object {
    const [instance = ''] = asked.InstanceIds ?? [];
    const host = hosts.get(instance);
    const CommandId = randomUUID();
    const made: Invocation = { instance, done: undefined };
    invocations.set(CommandId, made);
    void host?.run((asked.Parameters?.commands ?? []).join('\n')).then((done) => {
      made.done = done;
    });
    return { Command: { CommandId, Status: 'Pending' } };
  }

  function invocation(asked: Asked): object | undefined {
    const found = invocations.get(asked.CommandId);
    if (found === undefined || found.instance !== asked.InstanceId) return undefined;
    const { done } = found;
    if (done === undefined) return { ...asked, Status: 'InProgress' };
    return {
      ...{ ...asked, Status: done.code === 0 ? 'Success' : 'Failed', ResponseCode: done.code },
      ...{ StandardOutputContent: done.stdout, StandardErrorContent: done.stderr },
    };
  }

  async function forward(request: IncomingMessage, body: Buffer): Promise<Answer> {
    return await new Promise<Answer>((resolve, reject) => {
      const { hostname, port } = new URL(moto.origin);
      const { method, url: path, headers } = request;
      const onward = httpRequest({ hostname, port, method, path, headers }, (answer) => {
        read(answer).then(
          (bytes) => resolve({ status: answer.statusCode ?? 502, headers: answer.headers, body: bytes }),
          reject,
        );
      });
      onward.once('error', reject);
      onward.end(body);
    });
  }

  return aws;
}

/** Parameters of the fakes, as far as they look at them. */
interface Asked {
  readonly InstanceIds?: readonly string[];
  readonly Parameters?: { readonly commands?: readonly string[] };
  readonly Filters?: readonly { readonly Key: string; readonly Values: readonly string[] }[];
  readonly CommandId: string;
  readonly InstanceId: string;
}

const FAKES = {
  SendCommand: [ssm.SendCommandRequest$, ssm.SendCommandResult$],
  GetCommandInvocation: [ssm.GetCommandInvocationRequest$, ssm.GetCommandInvocationResult$],
  DescribeInstanceInformation: [
    ssm.DescribeInstanceInformationRequest$,
    ssm.DescribeInstanceInformationResult$,
  ],
} as const;

function json(status: number, value: object): Answer {
  const body = Buffer.from(JSON.stringify(value));
  return { status, headers: { 'content-type': 'application/x-amz-json-1.1' }, body };
}

function refusal({ status, code }: { readonly status: number; readonly code: string }): Answer {
  const text = `<Response><Errors><Error><Code>${code}</Code><Message>${code} of a test</Message></Error></Errors></Response>`;
  return { status, headers: { 'content-type': 'text/xml' }, body: Buffer.from(text) };
}

async function read(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY) throw new Error('The body is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function send(response: ServerResponse, { status, headers, body }: Answer): void {
  const { 'transfer-encoding': _, connection: __, ...rest } = headers;
  response.writeHead(status, rest as Record<string, string>);
  response.end(body);
}
