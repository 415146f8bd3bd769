import protobuf from 'protobufjs'

/** The messages of onnx.proto that Turbine reads and writes; field numbers are the format's own. */
const schema = `
syntax = "proto2";
package onnx;
message StringStringEntryProto { optional string key = 1; optional string value = 2; }
message TensorProto {
  repeated int64 dims = 1; optional int32 data_type = 2; repeated float float_data = 4 [packed = true];
  repeated int32 int32_data = 5 [packed = true]; repeated int64 int64_data = 7 [packed = true];
  optional string name = 8; optional bytes raw_data = 9;
  repeated StringStringEntryProto external_data = 13; optional int32 data_location = 14;
}
message TensorShapeProto {
  message Dimension { oneof value { int64 dim_value = 1; string dim_param = 2; } }
  repeated Dimension dim = 1;
}
message TypeProto {
  message Tensor { optional int32 elem_type = 1; optional TensorShapeProto shape = 2; }
  optional Tensor tensor_type = 1;
}
message ValueInfoProto { optional string name = 1; optional TypeProto type = 2; }
message AttributeProto {
  optional string name = 1; optional float f = 2; optional int64 i = 3; optional bytes s = 4;
  optional TensorProto t = 5; optional GraphProto g = 6; repeated float floats = 7; repeated int64 ints = 8;
  repeated bytes strings = 9; optional int32 type = 20;
}
message NodeProto {
  repeated string input = 1; repeated string output = 2; optional string name = 3; optional string op_type = 4;
  repeated AttributeProto attribute = 5; optional string domain = 7;
}
message GraphProto {
  repeated NodeProto node = 1; optional string name = 2; repeated TensorProto initializer = 5;
  repeated ValueInfoProto input = 11; repeated ValueInfoProto output = 12; repeated ValueInfoProto value_info = 13;
}
message OperatorSetIdProto { optional string domain = 1; optional int64 version = 2; }
message ModelProto {
  optional int64 ir_version = 1; optional string producer_name = 2; optional GraphProto graph = 7;
  repeated OperatorSetIdProto opset_import = 8; repeated StringStringEntryProto metadata_props = 14;
}`

const modelType = protobuf.parse(schema).root.lookupType('onnx.ModelProto')

export interface TensorProto {
  name: string
  /** A value of `dataTypes`. */
  dataType: number
  dims: number[]
  rawData?: Uint8Array
  /** `location` (a file beside the graph), `offset` and `length` in bytes. */
  externalData?: { key: string; value: string }[]
  /** 1: the data is external. */
  dataLocation?: number
}

export interface ValueInfoProto {
  name: string
  type: { tensorType: { elemType: number; shape: { dim: { dimValue?: number; dimParam?: string }[] } } }
}

export interface AttributeProto {
  name: string
  /** 1 float, 2 int, 3 string, 4 tensor, 5 graph, 6 floats, 7 ints. */
  type: number
  f?: number
  i?: number
  s?: Uint8Array
  t?: TensorProto
  g?: GraphProto
  floats?: number[]
  ints?: number[]
}

export interface NodeProto {
  opType: string
  /** An empty name leaves an optional input out. */
  input: string[]
  output: string[]
  name?: string
  domain?: string
  attribute?: AttributeProto[]
}

export interface GraphProto {
  name: string
  node: NodeProto[]
  initializer?: TensorProto[]
  input: ValueInfoProto[]
  output: ValueInfoProto[]
  valueInfo?: ValueInfoProto[]
}

export interface ModelProto {
  irVersion: number
  producerName?: string
  opsetImport: { domain: string; version: number }[]
  graph: GraphProto
}

/** ONNX's numbers of the element types that Turbine uses. */
export const dataTypes = {
  float32: 1,
  uint8: 2,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
} as const

export type DataType = keyof typeof dataTypes

/** Serialises a model as an `.onnx` file has it. */
export function encodeModel(model: ModelProto): Uint8Array {
  return modelType.encode(modelType.fromObject(model)).finish()
}

/** Reads an `.onnx` file. Fields that Turbine does not know are dropped. @throws Error when the bytes are no model. */
export function decodeModel(bytes: Uint8Array): ModelProto {
  return modelType.toObject(modelType.decode(bytes), {
    longs: Number,
    arrays: true,
    defaults: false,
  }) as ModelProto
}
