// Opens an ONNX file with Netron's own loader and prints what it sees.
//
//   node netron.mjs MODEL        beside Netron's modules
import * as fs from 'fs';
import { ModelFactoryService } from './view.js';

const host = {
    environment: () => null,
    event: () => {},
    require: (id) => import(`${id}.js`),
    request: async (file, encoding) => fs.readFileSync(file, encoding),
};

class Stream {
    constructor(bytes) {
        this.bytes = bytes;
        this.position = 0;
    }

    get length() {
        return this.bytes.length;
    }

    seek(position) {
        this.position = position >= 0 ? position : this.length + position;
    }

    skip(count) {
        this.position += count;
    }

    peek(count) {
        return this.bytes.subarray(this.position, count === undefined ? this.length : this.position + count);
    }

    read(count) {
        const found = this.peek(count);
        this.position += found.length;
        return found;
    }

    stream(count) {
        return new Stream(this.read(count));
    }
}

const context = {
    identifier: 'model.onnx',
    name: 'model.onnx',
    entries: new Map(),
    stream: new Stream(new Uint8Array(fs.readFileSync(process.argv[2]))),
    request: host.request,
    require: host.require,
    error: (error) => {
        throw error;
    },
};
const model = await new ModelFactoryService(host).open(context);
const [graph] = model.modules;
const named = (sides) => Object.fromEntries(sides.map((side) => [side.name, String(side.value[0].type)]));
const seen = { format: model.format, inputs: named(graph.inputs), outputs: named(graph.outputs) };
console.log(JSON.stringify({ ...seen, operators: graph.nodes.map((node) => node.type.name) }));
