from pipeline.base.errors import *  # temporary
