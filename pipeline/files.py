from pipeline.base.files import *  # temporary
