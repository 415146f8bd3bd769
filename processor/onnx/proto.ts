import protobuf from 'protobufjs'

/** The messages of onnx.proto, all of them with all fields: what a schema lacks is dropped when a file is read. */
const schema = `
syntax = "proto2";
package onnx;
message StringStringEntryProto { optional string key = 1; optional string value = 2; }
message TensorProto {
  message Segment { optional int64 begin = 1; optional int64 end = 2; }
  repeated int64 dims = 1; optional int32 data_type = 2; optional Segment segment = 3;
  repeated float float_data = 4 [packed = true]; repeated int32 int32_data = 5 [packed = true];
  repeated bytes string_data = 6; repeated int64 int64_data = 7 [packed = true];
  optional string name = 8; optional bytes raw_data = 9; repeated double double_data = 10 [packed = true];
  repeated uint64 uint64_data = 11 [packed = true]; optional string doc_string = 12;
  repeated StringStringEntryProto external_data = 13; optional int32 data_location = 14;
  repeated StringStringEntryProto metadata_props = 16;
}
message SparseTensorProto { optional TensorProto values = 1; optional TensorProto indices = 2; repeated int64 dims = 3; }
message TensorShapeProto {
  message Dimension { oneof value { int64 dim_value = 1; string dim_param = 2; } optional string denotation = 3; }
  repeated Dimension dim = 1;
}
message TypeProto {
  message Tensor { optional int32 elem_type = 1; optional TensorShapeProto shape = 2; }
  message Sequence { optional TypeProto elem_type = 1; }
  message Map { optional int32 key_type = 1; optional TypeProto value_type = 2; }
  message Opaque { optional string domain = 1; optional string name = 2; }
  message SparseTensor { optional int32 elem_type = 1; optional TensorShapeProto shape = 2; }
  message Optional { optional TypeProto elem_type = 1; }
  oneof value {
    Tensor tensor_type = 1; Sequence sequence_type = 4; Map map_type = 5; Opaque opaque_type = 7;
    SparseTensor sparse_tensor_type = 8; Optional optional_type = 9;
  }
  optional string denotation = 6;
}
message ValueInfoProto {
  optional string name = 1; optional TypeProto type = 2; optional string doc_string = 3;
  repeated StringStringEntryProto metadata_props = 4;
}
message AttributeProto {
  optional string name = 1; optional float f = 2; optional int64 i = 3; optional bytes s = 4;
  optional TensorProto t = 5; optional GraphProto g = 6; repeated float floats = 7; repeated int64 ints = 8;
  repeated bytes strings = 9; repeated TensorProto tensors = 10; repeated GraphProto graphs = 11;
  optional string doc_string = 13; optional TypeProto tp = 14; repeated TypeProto type_protos = 15;
  optional int32 type = 20; optional string ref_attr_name = 21; optional SparseTensorProto sparse_tensor = 22;
  repeated SparseTensorProto sparse_tensors = 23;
}
message IntIntListEntryProto { optional int64 key = 1; repeated int64 value = 2; }
message SimpleShardedDimProto { oneof dim { int64 dim_value = 1; string dim_param = 2; } optional int64 num_shards = 3; }
message ShardedDimProto { optional int64 axis = 1; repeated SimpleShardedDimProto simple_sharding = 2; }
message ShardingSpecProto {
  optional string tensor_name = 1; repeated int64 device = 2;
  repeated IntIntListEntryProto index_to_device_group_map = 3; repeated ShardedDimProto sharded_dim = 4;
}
message NodeDeviceConfigurationProto {
  optional string configuration_id = 1; repeated ShardingSpecProto sharding_spec = 2; optional int32 pipeline_stage = 3;
}
message NodeProto {
  repeated string input = 1; repeated string output = 2; optional string name = 3; optional string op_type = 4;
  repeated AttributeProto attribute = 5; optional string doc_string = 6; optional string domain = 7;
  optional string overload = 8; repeated StringStringEntryProto metadata_props = 9;
  repeated NodeDeviceConfigurationProto device_configurations = 10;
}
message TensorAnnotation {
  optional string tensor_name = 1; repeated StringStringEntryProto quant_parameter_tensor_names = 2;
}
message GraphProto {
  repeated NodeProto node = 1; optional string name = 2; repeated TensorProto initializer = 5;
  optional string doc_string = 10; repeated ValueInfoProto input = 11; repeated ValueInfoProto output = 12;
  repeated ValueInfoProto value_info = 13; repeated TensorAnnotation quantization_annotation = 14;
  repeated SparseTensorProto sparse_initializer = 15; repeated StringStringEntryProto metadata_props = 16;
}
message OperatorSetIdProto { optional string domain = 1; optional int64 version = 2; }
message FunctionProto {
  optional string name = 1; repeated string input = 4; repeated string output = 5; repeated string attribute = 6;
  repeated NodeProto node = 7; optional string doc_string = 8; repeated OperatorSetIdProto opset_import = 9;
  optional string domain = 10; repeated AttributeProto attribute_proto = 11; repeated ValueInfoProto value_info = 12;
  optional string overload = 13; repeated StringStringEntryProto metadata_props = 14;
}
message TrainingInfoProto {
  optional GraphProto initialization = 1; optional GraphProto algorithm = 2;
  repeated StringStringEntryProto initialization_binding = 3; repeated StringStringEntryProto update_binding = 4;
}
message DeviceConfigurationProto { optional string name = 1; optional int32 num_devices = 2; repeated string device = 3; }
message ModelProto {
  optional int64 ir_version = 1; optional string producer_name = 2; optional string producer_version = 3;
  optional string domain = 4; optional int64 model_version = 5; optional string doc_string = 6;
  optional GraphProto graph = 7; repeated OperatorSetIdProto opset_import = 8;
  repeated StringStringEntryProto metadata_props = 14; repeated TrainingInfoProto training_info = 20;
  repeated FunctionProto functions = 25; repeated DeviceConfigurationProto configuration = 26;
}`

/** The format's messages as protobufjs reflects them; the one that a file holds. */
export const modelType = protobuf.parse(schema).root.lookupType('onnx.ModelProto')

/** A whole number of 64 bits: a bigint where a number would round it. */
export type Int64 = number | bigint

interface Annotated {
  docString?: string
  metadataProps?: { key: string; value: string }[]
}

export interface TensorProto extends Annotated {
  name: string
  /** ONNX's number of the element type, see `dataTypes`. */
  dataType: number
  dims: number[]
  /** Little-endian, row-major. */
  rawData?: Uint8Array
  /** The data in one of these instead; narrower types are widened into `int32Data`. */
  floatData?: number[]
  int32Data?: number[]
  stringData?: Uint8Array[]
  int64Data?: Int64[]
  doubleData?: number[]
  uint64Data?: Int64[]
  /** `location` (a file beside the graph), `offset` and `length` in bytes. */
  externalData?: { key: string; value: string }[]
  /** 1: the data is external. */
  dataLocation?: number
}

export interface SparseTensorProto {
  values: TensorProto
  indices: TensorProto
  dims: number[]
}

/** A size: a number, a name for one that is known at run time, or neither. */
export interface Dimension {
  dimValue?: number
  dimParam?: string
  denotation?: string
}

export interface TensorTypeProto {
  elemType: number
  /** Absent: not even the rank is known. */
  shape?: { dim: Dimension[] }
}

export interface TypeProto {
  tensorType?: TensorTypeProto
  sparseTensorType?: TensorTypeProto
  sequenceType?: { elemType: TypeProto }
  optionalType?: { elemType: TypeProto }
  mapType?: { keyType: number; valueType: TypeProto }
  opaqueType?: { domain?: string; name?: string }
  denotation?: string
}

export interface ValueInfoProto extends Annotated {
  name: string
  type?: TypeProto
}

export interface AttributeProto {
  name: string
  /**
   * 1 float, 2 int, 3 string, 4 tensor, 5 graph, 6 floats, 7 ints, 8 strings, 9 tensors, 10 graphs, 11 sparse tensor,
   * 12 sparse tensors, 13 type, 14 types. A value that is zero or empty may be absent.
   */
  type?: number
  f?: number
  i?: Int64
  s?: Uint8Array
  t?: TensorProto
  g?: GraphProto
  floats?: number[]
  ints?: Int64[]
  strings?: Uint8Array[]
  tensors?: TensorProto[]
  graphs?: GraphProto[]
  sparseTensor?: SparseTensorProto
  sparseTensors?: SparseTensorProto[]
  tp?: TypeProto
  typeProtos?: TypeProto[]
  /** Inside a function: the function's attribute that gives the value. */
  refAttrName?: string
  docString?: string
}

export interface NodeProto extends Annotated {
  opType: string
  /** An empty name leaves an optional input out. */
  input: string[]
  output: string[]
  name?: string
  domain?: string
  attribute?: AttributeProto[]
  overload?: string
}

export interface GraphProto extends Annotated {
  name: string
  node: NodeProto[]
  initializer?: TensorProto[]
  sparseInitializer?: SparseTensorProto[]
  input: ValueInfoProto[]
  output: ValueInfoProto[]
  valueInfo?: ValueInfoProto[]
  quantizationAnnotation?: {
    tensorName: string
    quantParameterTensorNames: { key: string; value: string }[]
  }[]
}

export interface OperatorSetIdProto {
  domain?: string
  version: number
}

/** A function that nodes of the model call by its domain and name. */
export interface FunctionProto extends Annotated {
  name: string
  domain?: string
  overload?: string
  input: string[]
  output: string[]
  attribute?: string[]
  attributeProto?: AttributeProto[]
  node: NodeProto[]
  opsetImport: OperatorSetIdProto[]
  valueInfo?: ValueInfoProto[]
}

export interface ModelProto extends Annotated {
  irVersion: number
  producerName?: string
  producerVersion?: string
  domain?: string
  modelVersion?: Int64
  opsetImport: OperatorSetIdProto[]
  graph: GraphProto
  functions?: FunctionProto[]
}

/** ONNX's numbers of the element types that Turbine uses. */
export const dataTypes = {
  float32: 1,
  uint8: 2,
  int8: 3,
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

/** Reads the bytes of an `.onnx` file as they are; `readOnnx` is for files from outside. @throws Error when the bytes are no model. */
export function decodeModel(bytes: Uint8Array): ModelProto {
  const plain = modelType.toObject(modelType.decode(bytes), { longs: BigInt, arrays: true, defaults: false })
  return withNumbers(plain) as ModelProto
}

/** Replaces bigints by numbers in place where that is exact. */
function withNumbers(value: unknown): unknown {
  if (typeof value === 'bigint') {
    const number = Number(value)
    return Number.isSafeInteger(number) ? number : value
  }
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value
  const parts = value as Record<string, unknown>
  for (const key in parts) {
    const part = parts[key]
    if (typeof part === 'object' || typeof part === 'bigint') parts[key] = withNumbers(part)
  }
  return value
}
